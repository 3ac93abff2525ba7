/**
 * Elements to code without loss: random bits of every kind, and rows with scales, means and rotations as caches have.
 *
 * @module
 */
import fc from "fast-check";
import { WasmLossless } from "../../src/backend/wasm/lossless_kernels.ts";
import { fromFloat32 } from "../../src/cache/elements.ts";
import { BYTES_PER_ELEMENT, type DType } from "../../src/cache/types.ts";
import type { LosslessCoder } from "../../src/stages/lossless/coder.ts";
import type { ElementParts, LosslessKernels } from "../../src/stages/lossless/kernels.ts";
import { ReferenceLossless } from "../../src/stages/lossless/reference.ts";
import { elementBytes, headsOf, type LosslessShape } from "../../src/stages/lossless/shape.ts";
import type { LosslessStreams } from "../../src/stages/lossless/streams.ts";

/** Every form of the loops. A build that the engine does not run fails its tests. */
export const LOOPS: readonly (readonly [string, () => Promise<LosslessKernels>])[] = [
  ["reference", () => Promise.resolve(new ReferenceLossless())],
  ["wasm base", () => WasmLossless.open("base")],
  ["wasm simd", () => WasmLossless.open("simd")],
  ["wasm relaxed", () => WasmLossless.open("relaxed")],
];

/** A chunk. */
export interface LosslessCase {
  readonly shape: LosslessShape;
  readonly tokens: number;
  readonly positions: Int32Array;
  readonly data: Uint8Array;
}

/** Numbers below 1 from a seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What elements are drawn from. */
export type Filling = "cache" | "bits" | "zeros" | "wide";

/** A chunk of the given size. `wide` spreads exponents over the whole type, `bits` has NaN of every payload. */
export function losslessCase(
  dtype: DType,
  { blocks, dim, tokens, pairs, first, seed, filling }: {
    readonly blocks: number;
    readonly dim: number;
    readonly tokens: number;
    readonly pairs: number;
    readonly first: number;
    readonly seed: number;
    readonly filling: Filling;
  },
): LosslessCase {
  const next = random(seed);
  const turns = Uint32Array.from({ length: pairs }, (_, i) => Math.floor(2 ** 32 * 0.16 / 8 ** i));
  const positions = Int32Array.from({ length: tokens }, (_, t) => first + t);
  const values = new Float32Array(blocks * tokens * dim);
  for (let block = 0; block < blocks; block++) {
    // A pair turns as one: its second row follows the first by a quarter turn.
    const rows = Array.from({ length: dim }, () => ({ scale: 2 ** (6 * next() - 4), mean: 4 * (next() - 0.5) }));
    const phases = Array.from({ length: pairs }, next);
    for (let i = 0; i < dim; i++) {
      const first = i % Math.max(1, pairs);
      const { scale, mean } = i < 2 * pairs ? rows[first] : rows[i];
      for (let t = 0; t < tokens; t++) {
        const turned = phases[first] + positions[t] * turns[first] / 2 ** 32 - (i < pairs ? 0 : 0.25);
        const swing = i < 2 * pairs ? Math.cos(2 * Math.PI * turned) : 1;
        const noise = next() + next() + next() - 1.5;
        values[(block * tokens + t) * dim + i] = filling === "wide"
          ? (next() - 0.5) * 2 ** (240 * next() - 120)
          : scale * (mean * swing + noise);
      }
    }
  }
  const data = filling === "bits"
    ? Uint8Array.from({ length: values.length * BYTES_PER_ELEMENT[dtype] }, () => 256 * next())
    : filling === "zeros"
    ? new Uint8Array(values.length * BYTES_PER_ELEMENT[dtype])
    : fromFloat32(values, dtype);
  return { shape: { blocks, dim, dtype, turns }, tokens, positions, data };
}

/** Random chunks of every element type, geometry and filling. */
export function losslessCases(): fc.Arbitrary<LosslessCase> {
  return fc.record({
    dtype: fc.constantFrom<DType>("f16", "bf16", "f32"),
    blocks: fc.integer({ min: 1, max: 3 }),
    dim: fc.integer({ min: 1, max: 37 }),
    tokens: fc.integer({ min: 0, max: 70 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
    first: fc.integer({ min: 0, max: 2 ** 30 }),
    seed: fc.integer(),
    filling: fc.constantFrom<Filling>("cache", "bits", "zeros", "wide"),
  }).map(({ dtype, share, ...rest }) => losslessCase(dtype, { ...rest, pairs: Math.floor(share * rest.dim / 2) }));
}

/** Elements [end − begin][tokens][dim] of blocks [begin, end), over bytes that are not theirs. */
export async function decodeBlocks(
  coder: LosslessCoder,
  streams: LosslessStreams,
  tokens: number,
  positions: Int32Array,
  begin = 0,
  end = coder.shape.blocks,
): Promise<Uint8Array> {
  const [out, heads] = room(coder.shape, tokens, end - begin);
  await coder.decode(streams, tokens, positions, begin, heads);
  return out;
}

/** The same from parts. */
export function joinBlocks(
  loops: LosslessKernels,
  parts: ElementParts,
  shape: LosslessShape,
  tokens: number,
  rows: Int32Array,
  begin = 0,
  end = shape.blocks,
): Uint8Array {
  const [out, heads] = room(shape, tokens, end - begin);
  loops.join(parts, shape, tokens, rows, begin, heads);
  return out;
}

function room(shape: LosslessShape, tokens: number, blocks: number): [Uint8Array, Uint8Array[]] {
  const out = new Uint8Array(elementBytes({ ...shape, blocks }, tokens)).fill(0xa5);
  return [out, headsOf(out, blocks)];
}
