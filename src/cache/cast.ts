/**
 * The same cache with another element type, or under another description of its model.
 *
 * @module
 */
import { fromFloat32, toFloat32 } from "./elements.ts";
import { type HeadBytes, KvCache } from "./kv_cache.ts";
import type { DType, ModelSpec } from "./types.ts";

/** Every head of a cache, put through `change`, which leaves it the tokens that it holds. */
export function mapHeads(
  cache: KvCache,
  facts: { readonly model?: ModelSpec; readonly dtype?: DType },
  change: (head: HeadBytes, layer: number, index: number) => HeadBytes,
): KvCache {
  const { model, dtype, inputIds, queries } = cache;
  const blocks = Array.from({ length: model.layers }, (_, layer) =>
    Array.from({ length: model.kvHeads }, (_, head) => {
      const block = {
        key: cache.key(layer, head),
        value: cache.value(layer, head),
        positions: cache.positionsOf(layer, head),
      };
      return change(block, layer, head);
    }));
  return new KvCache({
    model: facts.model ?? model,
    dtype: facts.dtype ?? dtype,
    blocks,
    ...(inputIds ? { inputIds } : {}),
    ...(queries ? { queries } : {}),
  });
}

/** A cache with elements of another type, rounded to nearest even. The cache itself when it has that type. */
export function castCache(cache: KvCache, dtype: DType): KvCache {
  if (cache.dtype === dtype) return cache;
  const cast = (bytes: Uint8Array) => fromFloat32(toFloat32(bytes, cache.dtype), dtype);
  return mapHeads(cache, { dtype }, ({ key, value, positions }) => ({ key: cast(key), value: cast(value), positions }));
}

/** The same bytes under another description of the model (its name, the pairing of the source). */
export function describedAs(cache: KvCache, model: ModelSpec): KvCache {
  return mapHeads(cache, { model }, (head) => head);
}
