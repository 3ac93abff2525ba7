/**
 * Caches with the queries of their last tokens, as methods that weigh by attention want them.
 *
 * @module
 */
import { KvCache } from "../cache/kv_cache.ts";
import type { QueryTensors } from "../cache/types.ts";
import type { LanguageModel, LoadedCache, LoadOptions } from "./language_model.ts";

/** Tokens of one forward pass: bounds the memory of attention scores and logits. */
export const STEP = 512;

/** Options of {@linkcode prefill} and of what is built on it. */
export interface PrefillOptions {
  /** Last tokens whose queries are captured; default none. Needs a model that gives them: the capture graph. */
  readonly queries?: number;
  /** Layers that share keys and values, as in {@linkcode LoadOptions}. Default: none. */
  readonly layerSource?: LoadOptions["layerSource"];
  /** Called after each step with its tokens. */
  readonly onTokens?: (tokens: number) => void;
  /** Ends the work between steps. */
  readonly signal?: AbortSignal;
}

/**
 * Runs a prompt in steps; returns its cache, and the queries of its last tokens where they are wanted.
 *
 * @throws {RangeError} The prompt has no tokens.
 * @throws {KvzUnsupportedError} Queries are wanted, and the model gives none.
 */
export async function prefillWithQueries(
  model: LanguageModel,
  ids: Int32Array,
  { queries = 0, layerSource, onTokens, signal }: PrefillOptions = {},
): Promise<{ past: LoadedCache; queries?: QueryTensors }> {
  const first = layerSource === undefined ? {} : { layerSource };
  let past: LoadedCache | undefined;
  const parts: QueryTensors[] = [];
  const from = Math.max(0, ids.length - queries);
  for (let at = 0; at < ids.length; at += STEP) {
    signal?.throwIfAborted();
    const step = ids.subarray(at, at + STEP);
    const wanted = at + step.length > from;
    const result = await model.forward(step, { ...(past ? { past } : first), logits: "last", queries: wanted });
    past = result.present;
    if (wanted) parts.push(lastTokens(result.queries!, Math.min(step.length, at + step.length - from)));
    onTokens?.(step.length);
  }
  if (past === undefined) throw new RangeError("Cannot prefill: the prompt has no tokens");
  return { past, ...(parts.length === 0 ? {} : { queries: joinQueries(parts) }) };
}

/**
 * Prefills a prompt; returns its cache, f32 as the model computed it, with the queries of its last `queries` tokens.
 *
 * @throws what {@linkcode prefillWithQueries} throws
 */
export async function captureCache(
  model: LanguageModel,
  ids: Int32Array,
  options: PrefillOptions = {},
): Promise<KvCache> {
  const { past, queries } = await prefillWithQueries(model, ids, options);
  return withQueries(await model.unload(past, ids), queries);
}

/** The same cache with queries. */
export function withQueries(cache: KvCache, queries: QueryTensors | undefined): KvCache {
  if (queries === undefined) return cache;
  const { model, dtype, inputIds, positions } = cache;
  const blocks = Array.from(
    { length: model.layers },
    (_, layer) =>
      Array.from({ length: model.kvHeads }, (_, head) => ({
        key: cache.key(layer, head),
        value: cache.value(layer, head),
        positions,
      })),
  );
  return new KvCache({ model, dtype, blocks, queries, ...(inputIds ? { inputIds } : {}) });
}

/** Bytes of a token's query of one head. */
function rowBytes({ heads, tokens, layers }: QueryTensors): number {
  return layers[0].length / (heads * tokens);
}

function lastTokens(queries: QueryTensors, tokens: number): QueryTensors {
  if (tokens === queries.tokens) return queries;
  const row = rowBytes(queries);
  const layers = queries.layers.map((bytes) => {
    const out = new Uint8Array(queries.heads * tokens * row);
    for (let head = 0; head < queries.heads; head++) {
      const end = (head + 1) * queries.tokens * row;
      out.set(bytes.subarray(end - tokens * row, end), head * tokens * row);
    }
    return out;
  });
  return { ...queries, tokens, layers };
}

function joinQueries(parts: readonly QueryTensors[]): QueryTensors {
  const [first] = parts;
  if (parts.length === 1) return first;
  const row = rowBytes(first);
  const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
  const layers = first.layers.map((_, layer) => {
    const out = new Uint8Array(first.heads * tokens * row);
    for (let head = 0, at = 0; head < first.heads; head++) {
      for (const part of parts) {
        const length = part.tokens * row;
        out.set(part.layers[layer].subarray(head * length, (head + 1) * length), at);
        at += length;
      }
    }
    return out;
  });
  return { ...first, tokens, layers };
}
