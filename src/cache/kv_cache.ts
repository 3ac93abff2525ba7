/**
 * A KV cache in memory: one sequence, views of the caller's bytes by layer and head.
 *
 * @module
 */
import { KvzUnsupportedError } from "../errors.ts";
import {
  checkBlocks,
  checkDType,
  checkFacts,
  checkRange,
  denseBlocks,
  type DenseCache,
  distinctPositions,
  type HeadBytes,
  lowerBound,
  type RaggedCache,
  sameBytes,
  sameOptional,
  sameQueries,
} from "./layout.ts";
import { checkModel } from "./model.ts";
import {
  BYTES_PER_ELEMENT,
  type CacheSource,
  type DType,
  type Kind,
  type ModelSpec,
  type QueryTensors,
} from "./types.ts";

export type { CacheFacts, DenseCache, HeadBytes, LayerBytes, RaggedCache } from "./layout.ts";

/**
 * A KV cache of one sequence. Bytes are views of what the caller gave, never copies; do not change them afterwards.
 *
 * Dense caches come from layers, {@linkcode KvCache.ragged} takes every head for itself.
 *
 * @example
 * ```ts ignore
 * const cache = new KvCache({ model, dtype: "f16", positions, layers: [{ key, value }] });
 * const keysOfHead = cache.key(0, 2); // little-endian [tokens][keyDim]
 * ```
 */
export class KvCache implements CacheSource {
  /** Facts about the model. */
  readonly model: ModelSpec;
  /** Element type of keys and values. */
  readonly dtype: DType;
  /** Tokens of every head (dense) or distinct tokens over all heads (ragged). */
  readonly tokens: number;
  /** Absolute position of each token, strictly increasing. */
  readonly positions: Int32Array;
  /** Token ids, one for each position. */
  readonly inputIds?: Int32Array;
  /** Queries of the last tokens. */
  readonly queries?: QueryTensors;
  /** Whether heads hold different tokens. */
  readonly ragged: boolean;
  readonly #blocks: readonly (readonly HeadBytes[])[];

  /**
   * A cache over the caller's bytes, by layers (dense) or by heads.
   *
   * @throws {RangeError} A size does not fit the model, or positions do not rise; the message says where.
   * @throws {TypeError} The element type is unknown.
   */
  constructor(cache: DenseCache | RaggedCache) {
    checkModel(cache.model);
    checkDType(cache.dtype);
    if ("layers" in cache) {
      this.#blocks = denseBlocks(cache);
      this.positions = cache.positions;
    } else {
      checkBlocks(cache);
      this.#blocks = cache.blocks;
      this.positions = distinctPositions(cache.blocks);
    }
    this.model = cache.model;
    this.dtype = cache.dtype;
    this.tokens = this.positions.length;
    this.ragged = this.#blocks.some((heads) => heads.some(({ positions }) => positions.length !== this.tokens));
    checkFacts(cache, this.tokens);
    if (cache.inputIds) this.inputIds = cache.inputIds;
    if (cache.queries) this.queries = cache.queries;
  }

  /**
   * A cache whose heads may hold different tokens. When they all hold the same, the result is an ordinary dense cache
   * (`ragged` is false).
   *
   * @throws {RangeError} A size does not fit the model, or positions do not rise; the message says where.
   */
  static ragged(cache: RaggedCache): KvCache {
    return new KvCache(cache);
  }

  #block(layer: number, head: number): HeadBytes {
    const block = this.#blocks[layer]?.[head];
    if (block === undefined) {
      throw new RangeError(
        `Cannot read cache: layer ${layer}, head ${head} is outside ${this.model.layers} layers of ${this.model.kvHeads} heads`,
      );
    }
    return block;
  }

  /**
   * Keys of one head after RoPE, half-split: little-endian [kept tokens][keyDim], a view.
   *
   * @throws {RangeError} There is no such layer or head.
   */
  key(layer: number, head: number): Uint8Array {
    return this.#block(layer, head).key;
  }

  /**
   * Values of one head: little-endian [kept tokens][valueDim], a view.
   *
   * @throws {RangeError} There is no such layer or head.
   */
  value(layer: number, head: number): Uint8Array {
    return this.#block(layer, head).value;
  }

  /**
   * Positions of the tokens that one head holds, a view.
   *
   * @throws {RangeError} There is no such layer or head.
   */
  positionsOf(layer: number, head: number): Int32Array {
    return this.#block(layer, head).positions;
  }

  /**
   * Number of tokens that one head holds.
   *
   * @throws {RangeError} There is no such layer or head.
   */
  keptTokens(layer: number, head: number): number {
    return this.#block(layer, head).positions.length;
  }

  /**
   * Copies tokens [begin, end) of one kind: little-endian [layers][kvHeads][end − begin][dim].
   *
   * @throws {RangeError} The range is not inside the cache.
   * @throws {KvzUnsupportedError} The cache is ragged: there is no rectangle to read.
   */
  read(kind: Kind, begin: number, end: number): Uint8Array {
    const views = this.views(kind, begin, end);
    const out = new Uint8Array(views.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const view of views) {
      out.set(view, at);
      at += view.length;
    }
    return out;
  }

  /**
   * Tokens [begin, end) of one kind without copying: little-endian [end − begin][dim] of each head of each layer in turn.
   *
   * @throws {RangeError} The range is not inside the cache.
   * @throws {KvzUnsupportedError} The cache is ragged: its heads hold different tokens.
   */
  views(kind: Kind, begin: number, end: number): Uint8Array[] {
    checkRange("tokens", begin, end, this.tokens);
    if (this.ragged) {
      throw new KvzUnsupportedError(
        "Cannot read cache as dense: it is ragged (its heads hold different tokens); read it head by head",
      );
    }
    const dim = kind === "key" ? this.model.keyDim : this.model.valueDim;
    const row = dim * BYTES_PER_ELEMENT[this.dtype];
    return this.#blocks.flatMap((heads) => heads.map((block) => block[kind].subarray(begin * row, end * row)));
  }

  /**
   * Tokens [begin, end) as a cache of its own, without copying; of a ragged cache those tokens of each head whose
   * positions lie in that range of `positions`. Queries stay with it only as far as they belong to its last tokens.
   *
   * @throws {RangeError} The range is not inside the cache.
   */
  slice(begin: number, end: number): KvCache {
    checkRange("tokens", begin, end, this.tokens);
    const { model, dtype, tokens, positions, inputIds } = this;
    const keyRow = model.keyDim * BYTES_PER_ELEMENT[dtype];
    const valueRow = model.valueDim * BYTES_PER_ELEMENT[dtype];
    const kept = positions.subarray(begin, end);
    const blocks = this.#blocks.map((heads) =>
      heads.map((block) => {
        const dense = block.positions.length === tokens;
        const from = dense ? begin : begin === end ? 0 : lowerBound(block.positions, positions[begin]);
        const to = dense ? end : begin === end ? 0 : lowerBound(block.positions, positions[end - 1] + 1);
        return {
          key: block.key.subarray(from * keyRow, to * keyRow),
          value: block.value.subarray(from * valueRow, to * valueRow),
          positions: dense ? kept : block.positions.subarray(from, to),
        };
      })
    );
    return new KvCache({
      model,
      dtype,
      blocks,
      ...(inputIds ? { inputIds: inputIds.subarray(begin, end) } : {}),
      ...this.#sliceQueries(begin, end),
    });
  }

  #sliceQueries(begin: number, end: number): { queries?: QueryTensors } {
    const { queries, tokens, model } = this;
    if (queries === undefined) return {};
    const first = tokens - queries.tokens;
    const from = Math.max(begin, first) - first;
    const to = end - first;
    if (to <= from) return {};
    const row = model.keyDim * BYTES_PER_ELEMENT[queries.dtype];
    const layers = queries.layers.map((bytes) => {
      const out = new Uint8Array(queries.heads * (to - from) * row);
      for (let head = 0; head < queries.heads; head++) {
        const at = head * queries.tokens;
        out.set(bytes.subarray((at + from) * row, (at + to) * row), head * (to - from) * row);
      }
      return out;
    });
    return { queries: { dtype: queries.dtype, heads: queries.heads, tokens: to - from, layers } };
  }

  /**
   * Layers [begin, end) as a cache of its own, without copying; at least one layer.
   *
   * @throws {RangeError} The range is empty or not inside the cache.
   */
  sliceLayers(begin: number, end: number): KvCache {
    checkRange("layers", begin, end, this.model.layers);
    if (begin === end) {
      throw new RangeError(`Cannot read cache: layers [${begin}, ${end}) are none, expected at least 1`);
    }
    const { model, dtype, positions, inputIds, queries } = this;
    const blocks = this.#blocks.slice(begin, end);
    // The remaining layers of a ragged cache may hold fewer distinct tokens.
    const kept = distinctPositions(blocks);
    const whole = kept.length === positions.length;
    return new KvCache({
      model: { ...model, layers: end - begin },
      dtype,
      blocks,
      ...(inputIds ? { inputIds: whole ? inputIds : kept.map((p) => inputIds[lowerBound(positions, p)]) } : {}),
      ...(queries && whole ? { queries: { ...queries, layers: queries.layers.slice(begin, end) } } : {}),
    });
  }

  /**
   * Whether two caches hold the same bits: geometry, element type, positions, token ids, queries and every tensor.
   * What the model is called and how its keys are rotated is not compared.
   */
  equals(other: KvCache): boolean {
    const a = this.model;
    const b = other.model;
    if (a.layers !== b.layers || a.kvHeads !== b.kvHeads || a.keyDim !== b.keyDim || a.valueDim !== b.valueDim) {
      return false;
    }
    if (this.dtype !== other.dtype || !sameOptional(this.inputIds, other.inputIds)) return false;
    if (!sameQueries(this.queries, other.queries)) return false;
    return this.#blocks.every((heads, layer) =>
      heads.every((block, head) =>
        sameBytes(block.positions, other.positionsOf(layer, head)) &&
        sameBytes(block.key, other.key(layer, head)) && sameBytes(block.value, other.value(layer, head))
      )
    );
  }
}
