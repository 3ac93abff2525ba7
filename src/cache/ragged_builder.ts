/**
 * Building a cache whose heads hold different tokens from chunks.
 *
 * @module
 */
import type { CacheShape } from "./builder.ts";
import { type HeadBytes, KvCache } from "./kv_cache.ts";
import { checkDType, checkFacts, checkPositions, checkRange, sameBytes } from "./layout.ts";
import { checkModel } from "./model.ts";
import { BYTES_PER_ELEMENT, type CacheSink, type Kind, KINDS } from "./types.ts";

/** Tokens of one head that came with one write. */
interface Piece {
  readonly begin: number;
  readonly tokens: number;
  readonly positions: Int32Array;
  readonly bytes: Uint8Array;
}

/**
 * Collects a cache whose heads hold different tokens: takes chunks in any order and keeps of each the rows that are held.
 * A position that no head holds is no token of the result.
 */
export class RaggedCacheBuilder implements CacheSink {
  readonly #shape: CacheShape;
  /** [kind][layer][head]. */
  readonly #pieces: Record<Kind, Piece[][][]>;

  /** @throws {RangeError} The shape contradicts itself. */
  constructor(shape: CacheShape) {
    checkModel(shape.model);
    checkDType(shape.dtype);
    checkPositions("position", shape.positions);
    checkFacts(shape, shape.positions.length);
    this.#shape = shape;
    const { layers, kvHeads } = shape.model;
    const none = () => Array.from({ length: layers }, () => Array.from({ length: kvHeads }, (): Piece[] => []));
    this.#pieces = { key: none(), value: none() };
  }

  /**
   * Takes tokens [begin, begin + n) of layers [layerBegin, layerBegin + k): [k][kvHeads][n][dim], and what is held of
   * them, [k][kvHeads][n]; absent: everything. The number of layers k follows from the length of `data`.
   *
   * @throws {RangeError} The chunk does not fit the shape.
   */
  write(kind: Kind, layerBegin: number, begin: number, n: number, data: Uint8Array, kept?: Uint8Array): void {
    const { model, dtype, positions } = this.#shape;
    const row = (kind === "key" ? model.keyDim : model.valueDim) * BYTES_PER_ELEMENT[dtype];
    if (!(Number.isSafeInteger(n) && n >= 0)) throw new RangeError(`Cannot write cache: ${n} tokens`);
    checkRange("tokens", begin, begin + n, positions.length);
    if (n === 0) return;
    const layers = data.length / (model.kvHeads * n * row);
    checkRange("layers", layerBegin, layerBegin + layers, model.layers);
    const rows = layers * model.kvHeads;
    if (kept !== undefined && kept.length !== rows * n) {
      throw new RangeError(`Cannot write cache: ${kept.length} marks of kept tokens, expected ${rows * n}`);
    }
    for (let r = 0; r < rows; r++) {
      const held: number[] = [];
      for (let t = 0; t < n; t++) if (kept === undefined || kept[r * n + t] !== 0) held.push(t);
      const bytes = new Uint8Array(held.length * row);
      held.forEach((t, i) => bytes.set(data.subarray((r * n + t) * row, (r * n + t + 1) * row), i * row));
      const piece = { begin, tokens: n, positions: Int32Array.from(held, (t) => positions[begin + t]), bytes };
      this.#pieces[kind][layerBegin + Math.floor(r / model.kvHeads)][r % model.kvHeads].push(piece);
    }
  }

  /**
   * The cache.
   *
   * @throws {RangeError} Some tokens of some layer have not been written, or keys and values are held of different ones.
   */
  build(): KvCache {
    const { model, positions, inputIds, dtype, queries } = this.#shape;
    const held = new Set<number>();
    const blocks = Array.from(
      { length: model.layers },
      (_, layer) =>
        Array.from({ length: model.kvHeads }, (_, head): HeadBytes => {
          const [key, value] = KINDS.map((kind) => this.#join(kind, layer, head));
          if (!sameBytes(key.positions, value.positions)) {
            throw new RangeError(
              `Cannot build cache: layer ${layer}, head ${head} holds keys and values of other tokens`,
            );
          }
          for (const position of key.positions) held.add(position);
          return { key: key.bytes, value: value.bytes, positions: key.positions };
        }),
    );
    const all = held.size === positions.length;
    return new KvCache({
      model,
      dtype,
      blocks,
      ...(inputIds ? { inputIds: all ? inputIds : inputIds.filter((_, t) => held.has(positions[t])) } : {}),
      ...(queries && all ? { queries } : {}),
    });
  }

  #join(kind: Kind, layer: number, head: number): { positions: Int32Array; bytes: Uint8Array } {
    const pieces = this.#pieces[kind][layer][head].sort((a, b) => a.begin - b.begin);
    let end = 0;
    let [rows, length] = [0, 0];
    for (const { begin, tokens, positions, bytes } of pieces) {
      if (begin !== end) break;
      end += tokens;
      rows += positions.length;
      length += bytes.length;
    }
    if (end !== this.#shape.positions.length) {
      throw new RangeError(
        `Cannot build cache: ${kind} of layer ${layer}, head ${head} lacks token ${end} of ${this.#shape.positions.length}`,
      );
    }
    const out = { positions: new Int32Array(rows), bytes: new Uint8Array(length) };
    [rows, length] = [0, 0];
    for (const { positions, bytes } of pieces) {
      out.positions.set(positions, rows);
      out.bytes.set(bytes, length);
      rows += positions.length;
      length += bytes.length;
    }
    return out;
  }
}
