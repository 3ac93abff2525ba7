/**
 * Kernels that read and write every element once, on arrays larger than a GPU's caches, ready to run.
 *
 * @module
 */
import { type Backend, type DeviceBuffer, packedLength, type QuantGroup } from "../../src/backend/backend.ts";
import { blockBytes } from "../../src/backend/gpu/blocks.ts";
import { BLOCK } from "../../src/stages/quantize/ggml_blocks.ts";
import { paramCount } from "../../src/stages/quantize/uniform.ts";
import type { Scratch } from "../../src/stages/scratch.ts";
import { fillWith, halfNoise } from "./device_data.ts";

const [BLOCKS, DIM] = [16, 128];
/** Features, and components as well. */
const WIDTH = BLOCKS * DIM;
/** Elements of an FP8 row. */
const FP8_LENGTH = 256;
const CHUNK = 256;
/** Elements of noise that arrays repeat. */
const PATTERN = 1 << 20;

/** A plan like those that the dynamic program makes at 16×. */
const PLAN: readonly QuantGroup[] = plan([[3, 64, 1], [2, 64, 5], [2, 256, 2], [1, 64, 2], [1, 1024, 1]]);

/** Runs of a type, a size, and how many of it. */
function plan(runs: readonly (readonly [type: 1 | 2 | 3, size: number, count: number])[]): QuantGroup[] {
  let first = 0;
  return runs.flatMap(([type, size, count]) =>
    Array.from({ length: count }, () => {
      const group = { first, size, type };
      first += size;
      return group;
    })
  );
}

/** A kernel with its operands. */
export interface ElementwiseCase {
  readonly kernel: string;
  /** Bytes read and written. */
  readonly bytes: number;
  readonly run: () => void;
}

/**
 * The kernels of a GPU on `elements` elements, a multiple of 2048 · 64. They share operands of each size. Blocks and groups
 * are bound as a whole: they have no more than `mostBound` bytes of binary32.
 */
export function elementwiseCases(
  backend: Backend,
  scratch: Scratch,
  elements: number,
  mostBound: number,
): ElementwiseCase[] {
  const tokens = elements / WIDTH;
  const { entropy, integer, blocks, groups } = backend.gpu!;
  const shape = { dtype: "f16", blocks: BLOCKS, tokens, dim: DIM, rotaryDim: DIM } as const;
  const floats = Float32Array.from({ length: PATTERN }, () => Math.random() - 0.5);
  const filled = (pattern: ArrayBufferView, length: number): DeviceBuffer => {
    const from = scratch.upload(pattern);
    return fillWith(backend, from, scratch.alloc(length));
  };
  const [wide, wideTo] = [filled(floats, 4 * elements), scratch.alloc(4 * elements)];
  const [half, halfTo] = [filled(halfNoise(PATTERN, 1), 2 * elements), scratch.alloc(2 * elements)];
  const rotation = filled(floats, tokens * DIM * 4);
  const [mean, scales, tokenScales] = [WIDTH, WIDTH, tokens].map((n) => filled(floats, 4 * n));
  const quantizer = backend.uploadPlan(PLAN);
  const [symbols, symbolsTo] = [scratch.alloc(elements), scratch.alloc(elements)];
  const params = scratch.alloc(tokens * PLAN.length * 4);
  const packed = scratch.alloc(packedLength(PLAN, tokens));
  const rows = elements / FP8_LENGTH;
  const rowScales = scratch.alloc(rows * 2);
  const of = (kernel: string, bytes: number, run: () => void): ElementwiseCase => ({ kernel, bytes, run });
  const quantized = 5 * elements + params.byteLength;
  const cases = [
    of("gather", 6 * elements, () => backend.gather(half, shape, rotation, mean, wideTo)),
    of("scatter", 6 * elements, () => backend.scatter(wide, shape, rotation, mean, halfTo)),
    of("quantize", quantized, () => backend.quantize(wide, WIDTH, tokens, quantizer, symbols, params)),
    of("dequantize", quantized, () => backend.dequantize(symbols, params, quantizer, tokens, wideTo, WIDTH)),
    of("pack", elements + packed.byteLength, () => backend.pack(symbols, quantizer, tokens, packed)),
    of("unpack", elements + packed.byteLength, () => backend.unpack(packed, quantizer, tokens, symbolsTo)),
    of("encodeFp8", 5 * elements, () => backend.encodeFp8(wide, rows, FP8_LENGTH, symbolsTo, rowScales)),
    of("decodeFp8", 5 * elements, () => backend.decodeFp8(symbolsTo, rowScales, rows, FP8_LENGTH, wideTo)),
  ];
  if (entropy) {
    cases.push(
      of("transpose", 2 * elements, () => entropy.transpose(symbols, WIDTH, tokens, WIDTH, CHUNK, symbolsTo)),
      of("untranspose", 2 * elements, () => entropy.untranspose(symbols, WIDTH, tokens, WIDTH, CHUNK, symbolsTo)),
    );
  }
  if (integer) {
    const run = () => integer.scatterSums(wide, shape, scales, tokenScales, rotation, mean, halfTo);
    cases.push(of("scatter of sums", 6 * elements, run));
  }
  const whole = Math.min(elements, Math.floor(mostBound / 4 / WIDTH / 64) * 64 * WIDTH);
  const part = backend.view(wide, 0, 4 * whole);
  const partTo = backend.view(wideTo, 0, 4 * whole);
  if (blocks) {
    for (const type of ["q8_0", "q4_0"] as const) {
      const coded = scratch.alloc(blockBytes(whole / BLOCK, type));
      const bytes = 4 * whole + coded.byteLength;
      cases.push(of(`quantize ${type}`, bytes, () => blocks.quantize(part, whole / BLOCK, type, coded)));
      cases.push(of(`restore ${type}`, bytes, () => blocks.dequantize(coded, whole / BLOCK, type, partTo)));
    }
  }
  if (groups) {
    const rest = { group: 32, rotated: false, bits: 4, leastRange: 0 };
    const heads = { outer: BLOCKS, length: whole / WIDTH, inner: DIM, ...rest };
    const codes = backend.view(symbolsTo, 0, whole);
    const groupParams = scratch.alloc(2 * paramCount(heads));
    const bytes = 5 * whole + groupParams.byteLength;
    cases.push(of("quantize groups", bytes, () => groups.quantize(part, heads, codes, groupParams)));
    cases.push(of("restore groups", bytes, () => groups.dequantize(codes, groupParams, heads, partTo)));
  }
  return cases;
}
