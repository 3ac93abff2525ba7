/**
 * Coder of recipe quarot, after the authors' code (quarot/transformers/kv_cache.py): heads times Hadamard ÷ √dim, after
 * RoPE; then for each head of a token scale = max(range, 10^-5) ÷ (2^bits − 1) and zero = minimum. They rotate queries as
 * well and never rotate keys back; here what is restored is rotated back, which gives the same attention.
 *
 * Streams: COD codes [layers][heads][tokens], each head of a token packed into whole bytes; PAR scale, zero (binary16)
 * [layers][heads][tokens].
 *
 * @module
 */
import { KvzUnsupportedError } from "../../errors.ts";
import { packedBytes, packRows, unpackRows } from "../../stages/quantize/bit_packing.ts";
import { openGroups } from "../../stages/quantize/group_kernels.ts";
import type { GroupShape } from "../../stages/quantize/uniform.ts";
import { joinRows } from "../../stages/tokens/join.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange } from "../tensor/coder.ts";
import { finiteHalves, halfBytes, requireHalves } from "../tensor/halves.ts";
import { layerBytes } from "../tensor/rows.ts";
import type { QuarotOptions } from "./quarot.ts";

const LEAST_RANGE = 1e-5;

/**
 * Makes the coder of one kind.
 *
 * @throws {KvzUnsupportedError} The heads' dimension is no power of two: there is no Walsh–Hadamard matrix of it.
 */
export async function open({ bits }: QuarotOptions, { shapes: [shape], backend }: CoderContext): Promise<TensorCoder> {
  const { layers, heads, dim, kind } = shape;
  if ((dim & (dim - 1)) !== 0) {
    throw new KvzUnsupportedError(
      `Cannot use recipe quarot: a ${kind} has ${dim} elements a head, expected a power of two`,
    );
  }
  const perRow = packedBytes(dim, bits);
  const kernels = await openGroups(backend);
  const shapeOf = (outer: number): GroupShape => {
    return { outer, length: dim, inner: 1, group: dim, bits, leastRange: LEAST_RANGE, rotated: true };
  };
  return {
    async encode([block]: readonly TensorBlock[]) {
      const { codes, params } = await kernels.quantize(block.x, shapeOf(block.x.length / dim));
      requireHalves(params, block, (i) => i >> 1);
      return [packRows(codes, dim, bits), halfBytes(params)];
    },

    async decode([packed, paramBytes], range: TensorRange) {
      const bytes = layerBytes(packed, heads * range.tokens * perRow, shape, range);
      const perLayer = 4 * heads * range.tokens;
      const params = finiteHalves(layerBytes(paramBytes, perLayer, shape, range), `scales of ${kind}s`);
      const codes = unpackRows(bytes, dim, bits);
      return [await kernels.dequantize({ codes, params }, shapeOf(params.length / 2))];
    },

    limits: (tokens) => [layers * heads * tokens * perRow, 4 * layers * heads * tokens],

    join: (before, _, after) => before.map((bytes, i) => joinRows(bytes, after[i], layers * heads)),
  };
}
