/**
 * Building a cache in memory from chunks.
 *
 * @module
 */
import { KvCache } from "./kv_cache.ts";
import { type CacheFacts, checkDType, checkFacts, checkPositions, checkRange } from "./layout.ts";
import { checkModel } from "./model.ts";
import { BYTES_PER_ELEMENT, type CacheSink, type Kind } from "./types.ts";

/** What a {@linkcode KvCacheBuilder} has to know beforehand. */
export interface CacheShape extends CacheFacts {
  /** Absolute position of each token, strictly increasing. */
  readonly positions: Int32Array;
  /** Whether heads may hold different tokens; what takes dense caches alone refuses such a shape. Default false. */
  readonly ragged?: boolean;
}

/**
 * Collects a dense cache from chunks: allocates the whole from its shape, zero-filled, and takes writes in any order.
 */
export class KvCacheBuilder implements CacheSink {
  readonly #shape: CacheShape;
  readonly #layers: readonly { key: Uint8Array; value: Uint8Array }[];
  /** Token ranges written so far, [kind][layer], sorted and merged: begin, end, begin, end, … */
  readonly #written: Record<Kind, number[][]>;
  /** Last layer of what {@linkcode views} handed out and `write` has not yet told of. */
  readonly #lent = new Map<string, number>();

  /**
   * Allocates 2 · layers blocks.
   *
   * @throws {RangeError} The shape contradicts itself or does not fit into memory.
   */
  constructor(shape: CacheShape) {
    checkModel(shape.model);
    checkDType(shape.dtype);
    if (shape.ragged) throw new RangeError("Cannot make a dense cache: heads hold different tokens");
    checkPositions("position", shape.positions);
    checkFacts(shape, shape.positions.length);
    this.#shape = shape;
    const { model, dtype, positions } = shape;
    const elements = model.kvHeads * positions.length * BYTES_PER_ELEMENT[dtype];
    this.#layers = Array.from({ length: model.layers }, () => ({
      key: new Uint8Array(elements * model.keyDim),
      value: new Uint8Array(elements * model.valueDim),
    }));
    const none = () => Array.from({ length: model.layers }, (): number[] => []);
    this.#written = { key: none(), value: none() };
  }

  /**
   * Takes tokens [begin, begin + n) of layers [layerBegin, layerBegin + k): [k][kvHeads][n][dim]. The number of
   * layers k follows from the length of `data`.
   *
   * @throws {RangeError} The chunk does not fit the shape.
   */
  write(kind: Kind, layerBegin: number, begin: number, n: number, data: Uint8Array): void {
    const { model, dtype, positions } = this.#shape;
    const row = (kind === "key" ? model.keyDim : model.valueDim) * BYTES_PER_ELEMENT[dtype];
    if (!(Number.isSafeInteger(n) && n >= 0)) throw new RangeError(`Cannot write cache: ${n} tokens`);
    checkRange("tokens", begin, begin + n, positions.length);
    const perLayer = model.kvHeads * n * row;
    if (perLayer === 0 ? data.length !== 0 : data.length % perLayer !== 0) {
      throw new RangeError(
        `Cannot write cache: ${kind} chunk of ${n} tokens has ${data.length} bytes, expected a multiple of ${perLayer}`,
      );
    }
    if (perLayer === 0) return;
    const lent = `${kind} ${layerBegin} ${begin} ${n}`;
    const layerEnd = data.length > 0 ? layerBegin + data.length / perLayer : this.#lent.get(lent) ?? layerBegin;
    this.#lent.delete(lent);
    if (data.length > 0) {
      let at = 0;
      for (const view of this.#views(kind, layerBegin, layerEnd, begin, n)) view.set(data.subarray(at, at += n * row));
    }
    for (let layer = layerBegin; layer < layerEnd; layer++) addRange(this.#written[kind][layer], begin, begin + n);
  }

  /**
   * Memory of tokens [begin, begin + n) of layers [layerBegin, layerEnd): a view [n][dim] of each head. It counts as written
   * when {@linkcode write} is called for the same tokens and first layer, with empty data where all of it is there.
   *
   * @throws {RangeError} The range does not fit the shape.
   */
  views(kind: Kind, layerBegin: number, layerEnd: number, begin: number, n: number): Uint8Array[] {
    checkRange("tokens", begin, begin + n, this.#shape.positions.length);
    const views = this.#views(kind, layerBegin, layerEnd, begin, n);
    this.#lent.set(`${kind} ${layerBegin} ${begin} ${n}`, layerEnd);
    return views;
  }

  #views(kind: Kind, layerBegin: number, layerEnd: number, begin: number, n: number): Uint8Array[] {
    const { model, dtype, positions } = this.#shape;
    checkRange("layers", layerBegin, layerEnd, model.layers);
    const row = (kind === "key" ? model.keyDim : model.valueDim) * BYTES_PER_ELEMENT[dtype];
    const views: Uint8Array[] = [];
    for (let layer = layerBegin; layer < layerEnd; layer++) {
      for (let head = 0; head < model.kvHeads; head++) {
        const at = (head * positions.length + begin) * row;
        views.push(this.#layers[layer][kind].subarray(at, at + n * row));
      }
    }
    return views;
  }

  /**
   * The cache, over the builder's own memory.
   *
   * @throws {RangeError} Some tokens of some layer have not been written; the message names the first.
   */
  build(): KvCache {
    const tokens = this.#shape.positions.length;
    for (const kind of ["key", "value"] as const) {
      this.#written[kind].forEach((ranges, layer) => {
        const complete = tokens === 0 || (ranges.length === 2 && ranges[0] === 0 && ranges[1] === tokens);
        if (!complete) {
          const missing = ranges[0] === 0 ? ranges[1] : 0;
          throw new RangeError(`Cannot build cache: ${kind} of layer ${layer} lacks token ${missing} of ${tokens}`);
        }
      });
    }
    return new KvCache({ ...this.#shape, layers: this.#layers });
  }
}

/** Adds [begin, end) to sorted, merged ranges in place. */
function addRange(ranges: number[], begin: number, end: number): void {
  let first = 0;
  while (first < ranges.length && ranges[first + 1] < begin) first += 2;
  let last = first;
  while (last < ranges.length && ranges[last] <= end) {
    begin = Math.min(begin, ranges[last]);
    end = Math.max(end, ranges[last + 1]);
    last += 2;
  }
  ranges.splice(first, last - first, begin, end);
}
