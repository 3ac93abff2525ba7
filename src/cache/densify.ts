/**
 * Ragged caches as dense ones: zeros where a head does not hold a token, and a mask that says where.
 *
 * @module
 */
import { type HeadBytes, KvCache } from "./kv_cache.ts";
import { BYTES_PER_ELEMENT } from "./types.ts";

/** A dense cache and what hides its gaps. */
export interface Densified {
  /** Zeros where a head does not hold a token. */
  readonly cache: KvCache;
  /** Attention bias, [layers][kvHeads][tokens]: 0, or −Infinity where the head does not hold the token. */
  readonly bias: Float32Array;
}

/**
 * Fills the gaps of a cache whose heads hold different tokens, or fewer than wanted.
 *
 * @param positions tokens of the result, strictly increasing; default: those that any head holds. Token ids and queries
 * stay only with the default.
 * @throws {RangeError} A head holds a token that is not among `positions`.
 */
export function densify(cache: KvCache, positions: Int32Array = cache.positions): Densified {
  const { model, dtype, inputIds, queries } = cache;
  const { layers, kvHeads, keyDim, valueDim } = model;
  const tokens = positions.length;
  const bias = new Float32Array(layers * kvHeads * tokens).fill(-Infinity);
  const index = new Map<number, number>();
  positions.forEach((position, t) => index.set(position, t));

  function fill(layer: number, head: number): HeadBytes {
    const rows = Array.from(cache.positionsOf(layer, head), (position) => {
      const t = index.get(position);
      if (t === undefined) {
        throw new RangeError(`Cannot fill cache: layer ${layer}, head ${head} holds position ${position}, not wanted`);
      }
      return t;
    });
    for (const t of rows) bias[(layer * kvHeads + head) * tokens + t] = 0;
    const spread = (bytes: Uint8Array, dim: number) => {
      const row = dim * BYTES_PER_ELEMENT[dtype];
      const out = new Uint8Array(tokens * row);
      rows.forEach((t, i) => out.set(bytes.subarray(i * row, (i + 1) * row), t * row));
      return out;
    };
    return {
      key: spread(cache.key(layer, head), keyDim),
      value: spread(cache.value(layer, head), valueDim),
      positions,
    };
  }

  const blocks = Array.from({ length: layers }, (_, l) => Array.from({ length: kvHeads }, (_, h) => fill(l, h)));
  const facts = positions === cache.positions
    ? { ...(inputIds ? { inputIds } : {}), ...(queries ? { queries } : {}) }
    : {};
  return { cache: new KvCache({ model, dtype, blocks, ...facts }), bias };
}
