/**
 * Attention on a coded chunk: scores of queries and weighted sums of values, from the codes of all heads of a layer.
 * With x̂ = (q + first) · scale the scale and first integer of a group go into the weights:
 *
 *     keys by block      k̂·y = scale · (Σ q y + first · Σ y)
 *     keys by channel    k̂·y = Σ q (scale y) + Σ first (scale y)
 *     values by token    Σ p v̂ = Σ q (scale p) + Σ first (scale p)
 *
 * @module
 */
import { f16ToNumber } from "../../cache/elements.ts";
import type { CodedTensor, OpenTensor } from "../entropy/huffman_dots.ts";
import { partShape } from "../entropy/huffman_dots.ts";
import type { KvCompChunk } from "./coder.ts";
import { blockTokens, codedShape, groupsOf, type KvCompShape } from "./shape.ts";

/** Most products that a kernel makes of a vector at once. */
const LANES = 4;

/** Products with the coded tokens of one kind of a chunk. */
export class ChunkProducts implements Disposable {
  /** Tokens that are coded. */
  readonly coded: number;
  readonly #shape: KvCompShape;
  readonly #tensor: CodedTensor;
  readonly #scales: Float64Array;
  readonly #firsts: Int32Array;
  /** Groups of a layer. */
  readonly #groups: number;

  constructor(chunk: KvCompChunk, shape: KvCompShape, open: OpenTensor) {
    this.coded = chunk.coded;
    this.#shape = shape;
    this.#tensor = open(chunk.blocks, codedShape(shape, chunk.coded), chunk.lengths);
    this.#scales = Float64Array.from(chunk.groups.scales, f16ToNumber);
    this.#firsts = chunk.groups.firsts;
    this.#groups = groupsOf(shape, chunk.coded) / shape.layers;
  }

  /**
   * Products of every coded key of a layer with the queries of its head.
   *
   * @param queries [KV heads][queries of a head][dim]
   * @returns [KV heads][queries of a head][coded tokens]
   */
  async scores(layer: number, queries: Float32Array): Promise<Float32Array> {
    const { heads, dim } = this.#shape;
    const each = queries.length / heads / dim;
    const out = new Float32Array(heads * each * this.coded);
    for (let first = 0; first < each; first += LANES) {
      const count = Math.min(LANES, each - first);
      for (let part = 0; part * 128 < dim; part++) await this.#keyPart(layer, part, queries, each, first, count, out);
    }
    return out;
  }

  async #keyPart(
    layer: number,
    part: number,
    queries: Float32Array,
    each: number,
    first: number,
    count: number,
    out: Float32Array,
  ): Promise<void> {
    const { heads, dim, grouping } = this.#shape;
    const { tokenBlocks, vectors, length } = partShape(this.#tensor.shape, part);
    const lanes = count === 1 ? 1 : LANES;
    const sets = grouping === "channel" ? tokenBlocks : 1;
    const weights = new Float32Array(heads * sets * length * lanes);
    // What each product is short of, by head, block of tokens and lane, before `scale` of keys by block.
    const missing = new Float64Array(heads * tokenBlocks * lanes);
    for (let head = 0; head < heads; head++) {
      for (let block = 0; block < tokenBlocks; block++) {
        for (let lane = 0; lane < count; lane++) {
          const from = (head * each + first + lane) * dim + part * 128;
          let sum = 0;
          for (let i = 0; i < length; i++) {
            const group = grouping === "channel"
              ? layer * this.#groups + (block * heads + head) * dim + part * 128 + i
              : layer * this.#groups + block;
            const weight = queries[from + i] * (grouping === "channel" ? this.#scales[group] : 1);
            sum += weight * this.#firsts[group];
            if (block < sets) weights[((head * sets + block) * length + i) * lanes + lane] = weight;
          }
          missing[(head * tokenBlocks + block) * lanes + lane] = sum;
        }
      }
    }
    const dots = await this.#tensor.dots({ layer, part, weights, sets, lanes });
    for (let head = 0; head < heads; head++) {
      for (let block = 0; block < tokenBlocks; block++) {
        const scale = grouping === "channel" ? 1 : this.#scales[layer * this.#groups + block];
        for (let lane = 0; lane < count; lane++) {
          const short = missing[(head * tokenBlocks + block) * lanes + lane];
          const to = (head * each + first + lane) * this.coded + block * vectors;
          const from = (head * tokenBlocks + block) * vectors * lanes + lane;
          for (let v = 0; v < vectors; v++) out[to + v] += scale * (dots[from + v * lanes] + short);
        }
      }
    }
  }

  /**
   * Sums of a layer's coded values, weighted.
   *
   * @param weights [KV heads][queries of a head][coded tokens]
   * @returns [KV heads][queries of a head][dim]
   */
  async mix(layer: number, weights: Float32Array): Promise<Float32Array> {
    const { heads, dim } = this.#shape;
    const each = this.coded === 0 ? 0 : weights.length / heads / this.coded;
    const out = new Float32Array(heads * each * dim);
    for (let first = 0; first < each; first += LANES) {
      await this.#values(layer, weights, each, first, Math.min(LANES, each - first), out);
    }
    return out;
  }

  async #values(
    layer: number,
    given: Float32Array,
    each: number,
    first: number,
    count: number,
    out: Float32Array,
  ): Promise<void> {
    const { heads, dim } = this.#shape;
    const length = blockTokens("value");
    const tokenBlocks = this.coded / length;
    const lanes = count === 1 ? 1 : LANES;
    const weights = new Float32Array(heads * tokenBlocks * length * lanes);
    const missing = new Float64Array(heads * lanes);
    for (let head = 0; head < heads; head++) {
      for (let lane = 0; lane < count; lane++) {
        const from = (head * each + first + lane) * this.coded;
        let sum = 0;
        for (let t = 0; t < this.coded; t++) {
          const group = layer * this.#groups + t;
          const weight = given[from + t] * this.#scales[group];
          sum += weight * this.#firsts[group];
          weights[(head * this.coded + t) * lanes + lane] = weight;
        }
        missing[head * lanes + lane] = sum;
      }
    }
    const sums = new Float64Array(dim);
    for (let part = 0; part * 64 < dim; part++) {
      const { vectors } = partShape(this.#tensor.shape, part);
      const dots = await this.#tensor.dots({ layer, part, weights, sets: tokenBlocks, lanes });
      for (let head = 0; head < heads; head++) {
        for (let lane = 0; lane < count; lane++) {
          sums.fill(missing[head * lanes + lane], 0, vectors);
          for (let block = 0; block < tokenBlocks; block++) {
            const from = (head * tokenBlocks + block) * vectors * lanes + lane;
            for (let v = 0; v < vectors; v++) sums[v] += dots[from + v * lanes];
          }
          out.set(sums.subarray(0, vectors), (head * each + first + lane) * dim + part * 64);
        }
      }
    }
  }

  [Symbol.dispose](): void {
    this.#tensor[Symbol.dispose]();
  }
}
