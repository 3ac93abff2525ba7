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
import { type NetFactory, openNets, productLayer, type RowNet } from "../../stages/transform/dense.ts";
import { gaussianMatrix, randomRotation, transposed } from "../../stages/transform/random_rotation.ts";
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
export async function open(
  options: TurboquantOptions,
  { shapes: [shape], backend }: CoderContext,
): Promise<TensorCoder> {
  const { dim, kind } = shape;
  if (dim < 8) {
    throw new KvzUnsupportedError(
      `Cannot use recipe turboquant: a ${kind} has ${dim} elements a head, expected 8 or more`,
    );
  }
  return new TurboquantCoder(options, shape, await openNets(backend));
}

class TurboquantCoder implements TensorCoder {
  readonly #shape: TensorShape;
  readonly #prod: boolean;
  /** Bits of a code: those of the codebook. */
  readonly #bits: number;
  /** x → Π x and back. */
  readonly #turn: RowNet;
  readonly #back: RowNet;
  readonly #levels: Float64Array;
  /** r → S r, and signs → Sᵀ signs; null in mse. */
  readonly #sketch: { readonly of: RowNet; readonly back: RowNet } | null;

  constructor({ bits, variant, seed }: TurboquantOptions, shape: TensorShape, nets: NetFactory) {
    const { dim } = shape;
    this.#shape = shape;
    this.#prod = variant === "prod";
    this.#bits = this.#prod ? bits - 1 : bits;
    const product = (matrix: Float64Array) => nets([productLayer(Float32Array.from(matrix), dim, dim)]);
    const rotation = randomRotation(dim, seed);
    // Rows times a matrix are the transpose times vectors.
    this.#turn = product(transposed(rotation, dim));
    this.#back = product(rotation);
    this.#levels = sphereCodebook(dim, this.#bits);
    // Another seed than the rotation's: the two are independent.
    const sketch = this.#prod ? gaussianMatrix(dim, seed ^ 0x40000000) : null;
    this.#sketch = sketch === null ? null : { of: product(transposed(sketch, dim)), back: product(sketch) };
  }

  async encode([block]: readonly TensorBlock[]): Promise<Uint8Array[]> {
    const { dim } = this.#shape;
    const { x } = block;
    const rows = x.length / dim;
    const norms = new Uint16Array(rows);
    const halves = halfValues();
    for (let r = 0; r < rows; r++) {
      norms[r] = numberToF16(normOf(x, r * dim, dim));
      const norm = halves[norms[r]];
      const inverse = norm === 0 ? 0 : 1 / norm;
      for (let i = r * dim; i < (r + 1) * dim; i++) x[i] *= inverse;
    }
    requireHalves(norms, block, (row) => row);
    const codes = nearestLevels(await this.#turn.run(x), this.#levels);
    const packed = packRows(codes, dim, this.#bits);
    if (this.#sketch === null) return [packed, halfBytes(norms), new Uint8Array(0), new Uint8Array(0)];

    const restored = await this.#vectors(codes);
    const rests = new Uint16Array(rows);
    for (let i = 0; i < x.length; i++) x[i] -= restored[i];
    for (let r = 0; r < rows; r++) rests[r] = numberToF16(normOf(x, r * dim, dim));
    const sketch = await this.#sketch.of.run(x);
    const signs = new Uint8Array(x.length);
    for (let i = 0; i < signs.length; i++) signs[i] = sketch[i] < 0 ? 1 : 0;
    return [packed, halfBytes(norms), packRows(signs, dim, 1), halfBytes(rests)];
  }

  async decode(streams: readonly Uint8Array[], range: TensorRange): Promise<Float32Array[]> {
    const { heads, dim, kind } = this.#shape;
    const perLayer = heads * range.tokens;
    const part = (i: number, perRow: number) => layerBytes(streams[i], perLayer * perRow, this.#shape, range);
    const codes = unpackRows(part(0, packedBytes(dim, this.#bits)), dim, this.#bits);
    // The codebook has 2^bits levels: every code has one.
    const norms = finiteHalves(part(1, 2), `norms of ${kind}s`);
    const halves = halfValues();
    const x = await this.#vectors(codes);
    if (this.#sketch !== null) {
      const signs = unpackRows(part(2, packedBytes(dim, 1)), dim, 1);
      const rests = finiteHalves(part(3, 2), `norms of rests of ${kind}s`);
      const ones = new Float32Array(signs.length);
      for (let i = 0; i < ones.length; i++) ones[i] = signs[i] === 1 ? -1 : 1;
      const turned = await this.#sketch.back.run(ones);
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

  [Symbol.dispose](): void {
    for (const product of [this.#turn, this.#back, this.#sketch?.of, this.#sketch?.back]) product?.[Symbol.dispose]();
  }

  /** Unit vectors from codes. */
  async #vectors(codes: Uint8Array): Promise<Float32Array> {
    const levels = this.#levels;
    const y = new Float32Array(codes.length);
    for (let i = 0; i < y.length; i++) y[i] = levels[codes[i]];
    return await this.#back.run(y);
  }
}

function normOf(x: Float32Array, at: number, dim: number): number {
  let squares = 0;
  for (let i = at; i < at + dim; i++) squares += x[i] * x[i];
  return Math.sqrt(squares);
}

/** Cells in which the level nearest to a value is looked up: narrower than two borders are apart. */
const CELLS = 512;

/** Index of the level nearest to each value. */
function nearestLevels(values: Float32Array, levels: Float64Array): Uint8Array {
  const borders = new Float64Array(levels.length).fill(Infinity);
  for (let i = 0; i + 1 < levels.length; i++) borders[i] = (levels[i] + levels[i + 1]) / 2;
  const reach = levels[levels.length - 1];
  // The first level of each cell: borders below the cell's begin.
  const first = new Uint8Array(CELLS);
  const scale = CELLS / (2 * reach);
  for (let cell = 0, code = 0; cell < CELLS; cell++) {
    while (borders[code] < cell / scale - reach) code++;
    first[cell] = code;
  }
  const codes = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    const cell = Math.min(CELLS - 1, Math.max(0, (value + reach) * scale)) | 0;
    let code = first[cell];
    if (value > borders[code]) code++;
    codes[i] = code;
  }
  return codes;
}
