/**
 * Coder of recipes palu and recalkv. For every group of heads of a layer, y the group's keys before RoPE or values of a token
 * [heads · dim] and b what the projection adds:
 *
 *     z = P (y − b)    P the pseudoinverse of the decoder L, so that ‖y − b − L z‖ is least
 *     ŷ = L ẑ + b
 *
 * z is stored in binary16, or in few bits as both papers' code quantizes it: q = round(z ÷ scale) in [−2^(bits−1),
 * 2^(bits−1) − 1], scale = max(|z|, 10^-5) ÷ (2^(bits−1) − 1) in binary16, one for a token and group.
 *
 * Streams: LAT latents [layers][groups][tokens][rank], binary16 or q + 2^(bits−1) packed into whole bytes a row; SCL scales
 * [layers][groups][tokens], binary16, none where latents are.
 *
 * @module
 */
import { numberToF16 } from "../../cache/elements.ts";
import { KvzFormatError, KvzMismatchError } from "../../errors.ts";
import type { LatentMap, LowRankProfile } from "../../profile/lowrank/types.ts";
import { packedBytes, packRows, unpackRows } from "../../stages/quantize/bit_packing.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange, TensorShape } from "../tensor/coder.ts";
import { finiteHalves, halfBytes, halfValues, requireHalves } from "../tensor/halves.ts";
import type { LowRankOptions } from "./lowrank.ts";

const LEAST = 1e-5;

/** Makes the coder of one kind. */
export function open({ bits }: LowRankOptions, { shapes: [shape], profile }: CoderContext): TensorCoder {
  const { layers } = profile as LowRankProfile;
  return new LowRankCoder(bits, shape, layers.map((layer) => layer[shape.kind]));
}

/** A group of heads of a layer. */
interface Block {
  readonly layer: number;
  readonly heads: readonly number[];
  readonly rank: number;
  readonly projector: Float32Array;
  readonly decoder: Float32Array;
  /** Of the group's heads, in their order; null where the projection adds nothing. */
  readonly bias: Float32Array | null;
  /** Bytes of a token in LAT. */
  readonly perToken: number;
}

class LowRankCoder implements TensorCoder {
  readonly #bits: number;
  readonly #shape: TensorShape;
  readonly #blocks: readonly Block[];

  constructor(bits: number, shape: TensorShape, maps: readonly LatentMap[]) {
    if (maps.length !== shape.layers) {
      throw new KvzMismatchError(
        `Cannot use the profile: it has factors of ${maps.length} layers, the cache has ${shape.layers}`,
      );
    }
    this.#bits = bits;
    this.#shape = shape;
    this.#blocks = maps.flatMap((map, layer) => blocksOf(map, layer, shape.dim, bits));
  }

  encode([block]: readonly TensorBlock[]): Uint8Array[] {
    const { tokens } = block;
    const latents: Uint8Array[] = [];
    const scales: Uint8Array[] = [];
    for (const group of this.#blocks) {
      const z = this.#project(block, group);
      const rowOf = (row: number) => (group.layer * this.#shape.heads + group.heads[0]) * tokens + row;
      if (this.#bits === 16) {
        const halves = Uint16Array.from(z, numberToF16);
        requireHalves(halves, block, (i) => rowOf(Math.floor(i / group.rank)));
        latents.push(halfBytes(halves));
      } else {
        const { codes, halves } = quantize(z, group.rank, this.#bits);
        requireHalves(halves, block, rowOf);
        latents.push(packRows(codes, group.rank, this.#bits));
        scales.push(halfBytes(halves));
      }
    }
    return [concat(latents), concat(scales)];
  }

  decode([latents, scales]: readonly Uint8Array[], range: TensorRange): Float32Array[] {
    const { heads, dim, kind } = this.#shape;
    const { tokens, layerBegin, layerEnd } = range;
    const expected = this.limits(tokens);
    for (const [i, stream] of [latents, scales].entries()) {
      if (stream.length !== expected[i]) {
        throw new KvzFormatError(
          `Cannot decode ${kind}s: a stream has ${stream.length} bytes, expected ${expected[i]}`,
        );
      }
    }
    const out = new Float32Array((layerEnd - layerBegin) * heads * tokens * dim);
    let [at, scaleAt] = [0, 0];
    for (const group of this.#blocks) {
      const bytes = latents.subarray(at, at += group.perToken * tokens);
      const scaleBytes = scales.subarray(scaleAt, scaleAt += this.#bits === 16 ? 0 : 2 * tokens);
      if (group.layer < layerBegin || group.layer >= layerEnd) continue;
      const z = this.#latents(bytes, scaleBytes, group);
      this.#restore(z, group, tokens, out.subarray((group.layer - layerBegin) * heads * tokens * dim));
    }
    return [out];
  }

  limits(tokens: number): number[] {
    const perToken = this.#blocks.reduce((sum, block) => sum + block.perToken, 0);
    return [tokens * perToken, this.#bits === 16 ? 0 : 2 * tokens * this.#blocks.length];
  }

  join(
    before: readonly Uint8Array[],
    beforeTokens: number,
    after: readonly Uint8Array[],
    afterTokens: number,
  ): Uint8Array[] {
    return before.map((bytes, i) => {
      const parts: Uint8Array[] = [];
      let [a, b] = [0, 0];
      for (const { perToken } of this.#blocks) {
        const each = i === 0 ? perToken : this.#bits === 16 ? 0 : 2;
        parts.push(bytes.subarray(a, a += each * beforeTokens), after[i].subarray(b, b += each * afterTokens));
      }
      return concat(parts);
    });
  }

  /** Latents [tokens][rank] of a group by least squares. */
  #project({ x, tokens }: TensorBlock, { layer, heads, rank, projector, bias }: Block): Float32Array {
    const { dim, heads: all } = this.#shape;
    const width = heads.length * dim;
    const y = new Float32Array(width);
    const z = new Float32Array(tokens * rank);
    for (let t = 0; t < tokens; t++) {
      for (let h = 0; h < heads.length; h++) {
        const from = ((layer * all + heads[h]) * tokens + t) * dim;
        y.set(x.subarray(from, from + dim), h * dim);
      }
      if (bias !== null) { for (let i = 0; i < width; i++) y[i] -= bias[i]; }
      for (let r = 0; r < rank; r++) z[t * rank + r] = dot(projector, r * width, y, 0, width);
    }
    return z;
  }

  /** Latents of a group as they are stored. */
  #latents(bytes: Uint8Array, scaleBytes: Uint8Array, { rank }: Block): Float32Array {
    const values = halfValues();
    const { kind } = this.#shape;
    if (this.#bits === 16) return Float32Array.from(finiteHalves(bytes, `latents of ${kind}s`), (half) => values[half]);
    const scales = finiteHalves(scaleBytes, `scales of ${kind}s`);
    const codes = unpackRows(bytes, rank, this.#bits);
    const middle = 1 << this.#bits - 1;
    const z = new Float32Array(scales.length * rank);
    for (let i = 0; i < z.length; i++) z[i] = (codes[i] - middle) * values[scales[Math.floor(i / rank)]];
    return z;
  }

  /** Writes a group's heads [heads][tokens][dim] of a layer. */
  #restore(z: Float32Array, { heads, rank, decoder, bias }: Block, tokens: number, out: Float32Array): void {
    const { dim } = this.#shape;
    for (let t = 0; t < tokens; t++) {
      for (let h = 0; h < heads.length; h++) {
        const to = (heads[h] * tokens + t) * dim;
        for (let i = 0; i < dim; i++) {
          const row = h * dim + i;
          out[to + i] = dot(decoder, row * rank, z, t * rank, rank) + (bias === null ? 0 : bias[row]);
        }
      }
    }
  }
}

function blocksOf({ groups, bias }: LatentMap, layer: number, dim: number, bits: number): Block[] {
  const values = halfValues();
  return groups.map(({ heads, rank, decoder, projector }) => ({
    layer,
    heads,
    rank,
    projector,
    decoder: Float32Array.from(decoder, (half) => values[half]),
    bias: bias === null ? null : Float32Array.from(heads.flatMap((h) => [...bias.subarray(h * dim, (h + 1) * dim)])),
    perToken: bits === 16 ? 2 * rank : packedBytes(rank, bits),
  }));
}

function quantize(z: Float32Array, rank: number, bits: number): { codes: Uint8Array; halves: Uint16Array } {
  const values = halfValues();
  const middle = 1 << bits - 1;
  const codes = new Uint8Array(z.length);
  const halves = new Uint16Array(z.length / rank);
  for (let row = 0; row < halves.length; row++) {
    let most = LEAST;
    for (let i = row * rank; i < (row + 1) * rank; i++) most = Math.max(most, Math.abs(z[i]));
    halves[row] = numberToF16(most / (middle - 1));
    const scale = values[halves[row]];
    for (let i = row * rank; i < (row + 1) * rank; i++) {
      codes[i] = Math.max(0, Math.min(2 * middle - 1, roundEven(z[i] / scale) + middle));
    }
  }
  return { codes, halves };
}

/** To the nearest whole number, half to even, as PyTorch rounds. */
function roundEven(x: number): number {
  const rounded = Math.round(x);
  return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

function dot(a: Float32Array, aAt: number, b: Float32Array, bAt: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[aAt + i] * b[bAt + i];
  return sum;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
