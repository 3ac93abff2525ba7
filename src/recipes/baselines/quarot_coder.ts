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
import { dequantizeRun, quantizeRun } from "../../stages/quantize/uniform.ts";
import { joinRows } from "../../stages/tokens/join.ts";
import { hadamard } from "../../stages/transform/hadamard.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange } from "../tensor/coder.ts";
import { finiteHalves, halfBytes, halfValues, requireHalves } from "../tensor/halves.ts";
import { layerBytes } from "../tensor/rows.ts";
import type { QuarotOptions } from "./quarot.ts";

const LEAST_RANGE = 1e-5;

/**
 * Makes the coder of one kind.
 *
 * @throws {KvzUnsupportedError} The heads' dimension is no power of two: there is no Walsh–Hadamard matrix of it.
 */
export function open({ bits }: QuarotOptions, { shapes: [shape] }: CoderContext): TensorCoder {
  const { layers, heads, dim, kind } = shape;
  if ((dim & (dim - 1)) !== 0) {
    throw new KvzUnsupportedError(
      `Cannot use recipe quarot: a ${kind} has ${dim} elements a head, expected a power of two`,
    );
  }
  const perRow = packedBytes(dim, bits);
  return {
    encode([block]: readonly TensorBlock[]) {
      const { x } = block;
      const rows = x.length / dim;
      hadamard(x, dim);
      const codes = new Uint8Array(x.length);
      const params = new Uint16Array(2 * rows);
      const halves = halfValues();
      for (let r = 0; r < rows; r++) {
        quantizeRun(x, r * dim, 1, dim, bits, codes, params, 2 * r, halves, LEAST_RANGE);
      }
      requireHalves(params, block, (i) => i >> 1);
      return [packRows(codes, dim, bits), halfBytes(params)];
    },

    decode([packed, paramBytes], range: TensorRange) {
      const bytes = layerBytes(packed, heads * range.tokens * perRow, shape, range);
      const perLayer = 4 * heads * range.tokens;
      const params = finiteHalves(layerBytes(paramBytes, perLayer, shape, range), `scales of ${kind}s`);
      const rows = params.length / 2;
      const codes = unpackRows(bytes, dim, bits);
      const x = new Float32Array(rows * dim);
      const halves = halfValues();
      for (let r = 0; r < rows; r++) {
        dequantizeRun(codes, r * dim, 1, dim, halves[params[2 * r]], halves[params[2 * r + 1]], x);
      }
      hadamard(x, dim);
      return [x];
    },

    limits: (tokens) => [layers * heads * tokens * perRow, 4 * layers * heads * tokens],

    join: (before, _, after) => before.map((bytes, i) => joinRows(bytes, after[i], layers * heads)),
  };
}
