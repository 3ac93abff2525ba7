/**
 * Attention that the captured queries pay to the cache's tokens: what evicting methods choose by.
 *
 * @module
 */
import { toFloat32 } from "../../cache/elements.ts";
import { expOfNegative } from "../../cache/exponential.ts";
import { findNonFinite, requireFinite } from "../../cache/finite.ts";
import { BYTES_PER_ELEMENT, type CacheSource, type QueryTensors } from "../../cache/types.ts";
import { KvzUnsupportedError } from "../../errors.ts";

/** Keys of one KV head and the queries of its group. */
export interface HeadAttention {
  readonly layer: number;
  /** KV head. */
  readonly head: number;
  /** Keys after RoPE, [tokens][dim]. */
  readonly keys: Float32Array;
  /** Last queries after RoPE of each query head that reads this KV head, [window][dim]. */
  readonly queries: readonly Float32Array[];
  readonly tokens: number;
  readonly window: number;
  readonly dim: number;
}

/** How the queries of a method come. */
export interface QueryNeed {
  /** Recipe, for messages. */
  readonly recipe: string;
  /** Last queries that are used: a number, or all that the cache has. */
  readonly window: number | "all";
}

/**
 * Queries of a cache.
 *
 * @throws {KvzUnsupportedError} There are none, or too few.
 */
export async function requireQueries(source: CacheSource, { recipe, window }: QueryNeed): Promise<QueryTensors> {
  const queries = source.queries ?? await source.readQueries?.();
  const wanted = window === "all" ? 1 : window;
  if (queries === undefined || queries.tokens < wanted) {
    throw new KvzUnsupportedError(
      `Cannot compress with recipe ${recipe}: it needs queries of ${window === "all" ? "the" : `at least ${window}`} ` +
        `last tokens, the cache has ${
          queries === undefined ? "none" : `those of ${queries.tokens}`
        }; capture them with ` +
        "captureCache (kvz/eval), or as tensors queries.N of a safetensors file",
    );
  }
  return queries;
}

/**
 * Yields every KV head of every layer with the last queries that read it.
 *
 * @throws {KvzUnsupportedError} A key or query is NaN or infinite; the message says where.
 */
export async function* headsOf(
  source: CacheSource,
  queries: QueryTensors,
  wanted: number | "all",
): AsyncGenerator<HeadAttention, void, void> {
  const { model: { layers, kvHeads, keyDim: dim }, tokens, dtype } = source;
  const bytes = await source.read("key", 0, tokens);
  requireFinite(bytes, dtype, { kind: "key", heads: kvHeads, tokens, dim });
  const window = wanted === "all" ? queries.tokens : wanted;
  const group = queries.heads / kvHeads;
  const keyBytes = tokens * dim * BYTES_PER_ELEMENT[dtype];
  const row = dim * BYTES_PER_ELEMENT[queries.dtype];
  for (let layer = 0; layer < layers; layer++) {
    const own = queries.layers[layer];
    const bad = findNonFinite(own, queries.dtype);
    if (bad >= 0) {
      const at = Math.floor(bad / dim);
      throw new KvzUnsupportedError(
        `Cannot compress cache: query of layer ${layer}, head ${Math.floor(at / queries.tokens)}, token ` +
          `${tokens - queries.tokens + at % queries.tokens} is not finite`,
      );
    }
    for (let head = 0; head < kvHeads; head++) {
      const block = layer * kvHeads + head;
      yield {
        layer,
        head,
        keys: toFloat32(bytes.subarray(block * keyBytes, (block + 1) * keyBytes), dtype),
        queries: Array.from({ length: group }, (_, i) => {
          const end = (head * group + i + 1) * queries.tokens * row;
          return toFloat32(own.subarray(end - window * row, end), queries.dtype);
        }),
        tokens,
        window,
        dim,
      };
    }
  }
}

/**
 * Causal softmax attention of the last `window` queries, summed over the queries: [tokens]. Row r of the queries is that of
 * token tokens − window + r. Scores are q·k ÷ √dim.
 */
export function attentionSums(
  queries: Float32Array,
  { keys, tokens, window, dim }: Pick<HeadAttention, "keys" | "tokens" | "window" | "dim">,
): Float64Array {
  const sums = new Float64Array(tokens);
  const weights = new Float64Array(tokens);
  const scale = 1 / Math.sqrt(dim);
  for (let r = 0; r < window; r++) {
    const query = queries.subarray(r * dim, (r + 1) * dim);
    const seen = tokens - window + r + 1;
    let top = -Infinity;
    for (let t = 0, at = 0; t < seen; t++) {
      let dot = 0;
      for (let i = 0; i < dim; i++) dot += query[i] * keys[at++];
      const score = dot * scale;
      weights[t] = score;
      if (score > top) top = score;
    }
    let total = 0;
    for (let t = 0; t < seen; t++) total += weights[t] = expOfNegative(weights[t] - top);
    const factor = 1 / total;
    for (let t = 0; t < seen; t++) sums[t] += weights[t] * factor;
  }
  return sums;
}
