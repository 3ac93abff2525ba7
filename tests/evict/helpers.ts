/** Shared steps of the tests of evicting recipes. */
import { fromFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import type { DType, ModelSpec, QueryTensors } from "../../src/cache/types.ts";
import { random, syntheticCache, type SyntheticOptions } from "../synthetic.ts";

/** Random queries of the last `tokens` tokens of a model's `heads` query heads. */
export function randomQueries(model: ModelSpec, heads: number, tokens: number, dtype: DType = "f32", seed = 3) {
  const next = random(seed);
  const layers = Array.from(
    { length: model.layers },
    () => fromFloat32(Float32Array.from({ length: heads * tokens * model.keyDim }, () => next() * 4 - 2), dtype),
  );
  return { dtype, heads, tokens, layers } satisfies QueryTensors;
}

/** The synthetic cache with queries of its last `queried` tokens, two query heads a KV head. */
export function queriedCache(tokens: number, queried: number, options: SyntheticOptions = {}): KvCache {
  const cache = syntheticCache(tokens, options);
  return rebuilt(cache, { queries: randomQueries(cache.model, 2 * cache.model.kvHeads, queried, "f32", options.seed) });
}

/** The same cache with other facts. */
export function rebuilt(cache: KvCache, facts: { readonly queries?: QueryTensors }): KvCache {
  const { model, dtype, positions, inputIds } = cache;
  const layers = Array.from({ length: model.layers }, (_, layer) => {
    const own = cache.sliceLayers(layer, layer + 1);
    return { key: own.read("key", 0, cache.tokens), value: own.read("value", 0, cache.tokens) };
  });
  return new KvCache({ model, dtype, positions, layers, ...(inputIds ? { inputIds } : {}), ...facts });
}

/** Tokens that each head of a restored cache holds, [layer][head], as indices into `positions`. */
export function keptTokens(restored: KvCache, positions: Int32Array): number[][][] {
  const { layers, kvHeads } = restored.model;
  return Array.from(
    { length: layers },
    (_, layer) =>
      Array.from(
        { length: kvHeads },
        (_, head) => Array.from(restored.positionsOf(layer, head), (position) => positions.indexOf(position)),
      ),
  );
}
