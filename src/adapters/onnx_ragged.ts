/**
 * Ragged caches for graphs that take dense ones and an attention bias: evicted tokens become zeros that no query can see.
 *
 * @module
 */
import { mapHeads } from "../cache/cast.ts";
import type { KvCache } from "../cache/kv_cache.ts";
import { BYTES_PER_ELEMENT } from "../cache/types.ts";

/** A dense cache and what hides its gaps. */
export interface Densified {
  /** Over the distinct tokens of all heads; zeros where a head does not hold a token. */
  readonly cache: KvCache;
  /** [layers][kvHeads][tokens]: 0, or −Infinity where the head does not hold the token. */
  readonly bias: Float32Array;
}

/** Fills the gaps of a ragged cache. */
export function densify(cache: KvCache): Densified {
  const { model, dtype, tokens, positions } = cache;
  const bias = new Float32Array(model.layers * model.kvHeads * tokens);
  const index = new Map<number, number>();
  positions.forEach((position, t) => index.set(position, t));
  const dense = mapHeads(cache, {}, (head, layer, h) => {
    const hidden = bias.subarray((layer * model.kvHeads + h) * tokens, (layer * model.kvHeads + h + 1) * tokens);
    hidden.fill(-Infinity);
    const rows = Array.from(head.positions, (position) => index.get(position)!);
    for (const t of rows) hidden[t] = 0;
    const spread = (bytes: Uint8Array, dim: number) => {
      const row = dim * BYTES_PER_ELEMENT[dtype];
      const out = new Uint8Array(tokens * row);
      rows.forEach((t, i) => out.set(bytes.subarray(i * row, (i + 1) * row), t * row));
      return out;
    };
    return { key: spread(head.key, model.keyDim), value: spread(head.value, model.valueDim), positions };
  });
  return { cache: dense, bias };
}
