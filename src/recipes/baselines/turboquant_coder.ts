/**
 * Coder of recipe turboquant. Every head of a token is a vector x; ‖x‖ is kept in binary16 and counted.
 *
 *     mse   (Algorithm 1)  y = Π x ÷ ‖x‖, codes of y's coordinates; x̂ = ‖x‖ Πᵀ ŷ
 *     prod  (Algorithm 2)  mse with a bit less; r = the unit vector's rest; sign(S r) and ‖r‖;
 *                          x̂ = ‖x‖ (Πᵀ ŷ + √(π/2) ÷ dim · ‖r‖ Sᵀ sign(S r))
 *
 * Π: rotation drawn by the option's seed, S: Gaussian, both the same for all heads, layers and kinds of a dimension.
 *
 * Streams, [layers][heads][tokens]: COD codes of a vector packed into whole bytes; NRM ‖x‖, binary16; SGN signs, a bit
 * each; RNM ‖r‖, binary16. The last two are empty in mse.
 *
 * @module
 */
import { numberToF16 } from "../../cache/elements.ts";
import { KvzUnsupportedError } from "../../errors.ts";
import { packedBytes, packRows, unpackRows } from "../../stages/quantize/bit_packing.ts";
import { sphereCodebook } from "../../stages/quantize/sphere_codebook.ts";
import { joinRows } from "../../stages/tokens/join.ts";
import { gaussianMatrix, multiplyRows, randomRotation, transposed } from "../../stages/transform/random_rotation.ts";
import type { CoderContext, TensorBlock, TensorCoder, TensorRange, TensorShape } from "../tensor/coder.ts";
import { finiteHalves, halfBytes, halfValues, requireHalves } from "../tensor/halves.ts";
import { layerBytes } from "../tensor/rows.ts";
import type { TurboquantOptions } from "./turboquant.ts";

/** √(π/2). */
const SKETCH = Math.sqrt(Math.PI / 2);

/**
 * Makes the coder of one kind.
 *
 * @throws {KvzUnsupportedError} Heads have fewer than 8 dimensions: the codebook is for vectors, not for a few numbers.
 */
export function open(options: TurboquantOptions, { shapes: [shape] }: CoderContext): TensorCoder {
  const { dim, kind } = shape;
  if (dim < 8) {
    throw new KvzUnsupportedError(
      `Cannot use recipe turboquant: a ${kind} has ${dim} elements a head, expected 8 or more`,
    );
  }
  return new TurboquantCoder(options, shape);
}

class TurboquantCoder implements TensorCoder {
  readonly #shape: TensorShape;
  readonly #prod: boolean;
  /** Bits of a code: those of the codebook. */
  readonly #bits: number;
  readonly #rotation: Float64Array;
  readonly #back: Float64Array;
  readonly #levels: Float64Array;
  /** S and its transpose; null in mse. */
  readonly #sketch: { readonly rows: Float64Array; readonly columns: Float64Array } | null;

  constructor({ bits, variant, seed }: TurboquantOptions, shape: TensorShape) {
    const { dim } = shape;
    this.#shape = shape;
    this.#prod = variant === "prod";
    this.#bits = this.#prod ? bits - 1 : bits;
    this.#rotation = randomRotation(dim, seed);
    this.#back = transposed(this.#rotation, dim);
    this.#levels = sphereCodebook(dim, this.#bits);
    // Another seed than the rotation's: the two are independent.
    const rows = this.#prod ? gaussianMatrix(dim, seed ^ 0x40000000) : null;
    this.#sketch = rows === null ? null : { rows, columns: transposed(rows, dim) };
  }

  encode([block]: readonly TensorBlock[]): Uint8Array[] {
    const { dim } = this.#shape;
    const { x } = block;
    const rows = x.length / dim;
    const norms = new Uint16Array(rows);
    const halves = halfValues();
    for (let r = 0; r < rows; r++) {
      norms[r] = numberToF16(normOf(x, r * dim, dim));
      const norm = halves[norms[r]];
      for (let i = r * dim; i < (r + 1) * dim; i++) x[i] = norm === 0 ? 0 : x[i] / norm;
    }
    requireHalves(norms, block, (row) => row);
    const y = new Float32Array(x.length);
    multiplyRows(x, this.#rotation, dim, y);
    const codes = nearestLevels(y, this.#levels);
    const packed = packRows(codes, dim, this.#bits);
    if (this.#sketch === null) return [packed, halfBytes(norms), new Uint8Array(0), new Uint8Array(0)];

    const restored = this.#vectors(codes);
    const rests = new Uint16Array(rows);
    for (let i = 0; i < x.length; i++) x[i] -= restored[i];
    for (let r = 0; r < rows; r++) rests[r] = numberToF16(normOf(x, r * dim, dim));
    multiplyRows(x, this.#sketch.rows, dim, y);
    const signs = Uint8Array.from(y, (value) => value < 0 ? 1 : 0);
    return [packed, halfBytes(norms), packRows(signs, dim, 1), halfBytes(rests)];
  }

  decode(streams: readonly Uint8Array[], range: TensorRange): Float32Array[] {
    const { heads, dim, kind } = this.#shape;
    const perLayer = heads * range.tokens;
    const part = (i: number, perRow: number) => layerBytes(streams[i], perLayer * perRow, this.#shape, range);
    const codes = unpackRows(part(0, packedBytes(dim, this.#bits)), dim, this.#bits);
    // The codebook has 2^bits levels: every code has one.
    const norms = finiteHalves(part(1, 2), `norms of ${kind}s`);
    const halves = halfValues();
    const x = this.#vectors(codes);
    if (this.#sketch !== null) {
      const signs = unpackRows(part(2, packedBytes(dim, 1)), dim, 1);
      const rests = finiteHalves(part(3, 2), `norms of rests of ${kind}s`);
      const ones = Float32Array.from(signs, (sign) => sign === 1 ? -1 : 1);
      const turned = new Float32Array(ones.length);
      multiplyRows(ones, this.#sketch.columns, dim, turned);
      for (let r = 0; r < rests.length; r++) {
        const factor = SKETCH / dim * halves[rests[r]];
        for (let i = r * dim; i < (r + 1) * dim; i++) x[i] += factor * turned[i];
      }
    } else {
      part(2, 0);
      part(3, 0);
    }
    for (let r = 0; r < norms.length; r++) {
      const norm = halves[norms[r]];
      for (let i = r * dim; i < (r + 1) * dim; i++) x[i] *= norm;
    }
    return [x];
  }

  limits(tokens: number): number[] {
    const { layers, heads, dim } = this.#shape;
    const rows = layers * heads * tokens;
    const sketch = this.#prod ? rows : 0;
    return [rows * packedBytes(dim, this.#bits), 2 * rows, sketch * packedBytes(dim, 1), 2 * sketch];
  }

  join(before: readonly Uint8Array[], _: number, after: readonly Uint8Array[]): Uint8Array[] {
    const { layers, heads } = this.#shape;
    return before.map((bytes, i) => joinRows(bytes, after[i], layers * heads));
  }

  /** Unit vectors from codes. */
  #vectors(codes: Uint8Array): Float32Array {
    const y = Float32Array.from(codes, (code) => this.#levels[code]);
    const x = new Float32Array(y.length);
    multiplyRows(y, this.#back, this.#shape.dim, x);
    return x;
  }
}

function normOf(x: Float32Array, at: number, dim: number): number {
  let squares = 0;
  for (let i = at; i < at + dim; i++) squares += x[i] * x[i];
  return Math.sqrt(squares);
}

/** Index of the level nearest to each value. */
function nearestLevels(values: Float32Array, levels: Float64Array): Uint8Array {
  const borders = Float64Array.from({ length: levels.length - 1 }, (_, i) => (levels[i] + levels[i + 1]) / 2);
  const codes = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    // Halving: the number of borders below the value.
    let code = 0;
    for (let step = levels.length >> 1; step > 0; step >>= 1) if (value > borders[code + step - 1]) code += step;
    codes[i] = code;
  }
  return codes;
}
