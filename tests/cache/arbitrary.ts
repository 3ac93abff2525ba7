/** Random small caches for property tests. */
import fc from "fast-check";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { BYTES_PER_ELEMENT, type DType, type ModelSpec } from "../../src/cache/types.ts";

export const dtypes: fc.Arbitrary<DType> = fc.constantFrom<DType>("f32", "f16", "bf16");

export const models: fc.Arbitrary<ModelSpec> = fc.record({
  layers: fc.integer({ min: 1, max: 3 }),
  kvHeads: fc.integer({ min: 1, max: 3 }),
  keyDim: fc.integer({ min: 2, max: 9 }),
  valueDim: fc.integer({ min: 1, max: 9 }),
  rotate: fc.boolean(),
}).map(({ rotate, ...geometry }) => ({
  ...geometry,
  rope: rotate ? { theta: 10000, dim: geometry.keyDim & ~1, pairing: "half-split" as const } : null,
}));

/** Bytes that differ everywhere, reproducibly. */
export function noise(length: number, seed: number): Uint8Array {
  let state = seed >>> 0;
  return Uint8Array.from({ length }, () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24);
}

/** Strictly increasing positions. */
export const positionLists: fc.Arbitrary<Int32Array> = fc
  .uniqueArray(fc.integer({ min: 0, max: 2 ** 31 - 1 }), { maxLength: 8 })
  .map((list) => Int32Array.from(list).sort());

/** Dense caches with arbitrary bytes (also NaN), with or without token ids and queries. */
export const denseCaches: fc.Arbitrary<KvCache> = fc.record({
  model: models,
  dtype: dtypes,
  positions: positionLists,
  ids: fc.boolean(),
  queries: fc.boolean(),
  seed: fc.integer(),
}).map(({ model, dtype, positions, ids, queries, seed }) => {
  const size = model.kvHeads * positions.length * BYTES_PER_ELEMENT[dtype];
  const window = Math.min(2, positions.length);
  const heads = 2 * model.kvHeads;
  return new KvCache({
    model,
    dtype,
    positions,
    ...(ids ? { inputIds: positions.map((_, t) => seed % 1000 + t) } : {}),
    ...(queries
      ? {
        queries: {
          dtype,
          heads,
          tokens: window,
          layers: Array.from(
            { length: model.layers },
            (_, n) => noise(heads * window * model.keyDim * BYTES_PER_ELEMENT[dtype], seed + 1000 + n),
          ),
        },
      }
      : {}),
    layers: Array.from({ length: model.layers }, (_, n) => ({
      key: noise(size * model.keyDim, seed + 2 * n),
      value: noise(size * model.valueDim, seed + 2 * n + 1),
    })),
  });
});

/** Ragged caches: every head keeps its own tokens. */
export const raggedCaches: fc.Arbitrary<KvCache> = fc.record({
  model: models,
  dtype: dtypes,
  lists: fc.array(positionLists, { minLength: 9, maxLength: 9 }),
  seed: fc.integer(),
}).map(({ model, dtype, lists, seed }) =>
  KvCache.ragged({
    model,
    dtype,
    blocks: Array.from({ length: model.layers }, (_, layer) =>
      Array.from({ length: model.kvHeads }, (_, head) => {
        const positions = lists[layer * model.kvHeads + head];
        const size = positions.length * BYTES_PER_ELEMENT[dtype];
        return {
          key: noise(size * model.keyDim, seed + 2 * head),
          value: noise(size * model.valueDim, seed + 2 * head + 1),
          positions,
        };
      })),
  })
);
