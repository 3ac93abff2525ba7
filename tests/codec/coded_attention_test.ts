import { assert, assertEquals, assertRejects } from "deno-std/assert";
import { toFloat32 } from "../../src/cache/elements.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { CodedAttention } from "../../src/codec/coded_attention.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzMismatchError } from "../../src/errors.ts";
import { BACKENDS, uniform } from "../backend/backends.ts";
import { BLOCK_MODEL } from "../recipes/models.ts";
import { syntheticCache } from "../synthetic.ts";

/** K·q and Vᵀ·p of a restored cache in float64: [query heads][tokens], [query heads][valueDim]. */
function products(cache: KvCache, layer: number, queries: Float32Array, weights: Float32Array) {
  const { kvHeads, keyDim, valueDim } = cache.model;
  const rows = queries.length / keyDim;
  const scores: number[] = [];
  const sums: number[] = [];
  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row * kvHeads / rows);
    const k = toFloat32(cache.key(layer, head), cache.dtype);
    const v = toFloat32(cache.value(layer, head), cache.dtype);
    for (let t = 0; t < cache.tokens; t++) {
      let sum = 0;
      for (let i = 0; i < keyDim; i++) sum += queries[row * keyDim + i] * k[t * keyDim + i];
      scores.push(sum);
    }
    for (let i = 0; i < valueDim; i++) {
      let sum = 0;
      for (let t = 0; t < cache.tokens; t++) sum += weights[row * cache.tokens + t] * v[t * valueDim + i];
      sums.push(sum);
    }
  }
  return { scores, sums };
}

for (const [label, options] of BACKENDS) {
  Deno.test(`${label}: products with a coded cache are those with the restored one`, async () => {
    await using codec = await openCodec(null, { threads: 1 });
    const cache = syntheticCache(2048 + 400, { model: BLOCK_MODEL, dtype: "f32" });
    for (const keyGroups of ["block", "channel"] as const) {
      const { bytes } = await codec.compress(cache, { recipe: "kvcomp", keyGroups, sinks: 3 });
      const restored = (await codec.decompress(bytes)).cache;
      using coded = await CodedAttention.open(bytes, options);
      assertEquals(coded.tokens, cache.tokens);
      const heads = keyGroups === "block" ? 6 : 2;
      const queries = uniform(heads * 64, 3, 1);
      const weights = uniform(heads * cache.tokens, 4, 1 / cache.tokens);
      const wanted = products(restored, 1, queries, weights);
      const scores = await coded.scores(1, queries);
      const sums = await coded.mix(1, weights);
      assertEquals([scores.length, sums.length], [wanted.scores.length, wanted.sums.length]);
      scores.forEach((value, i) => assert(Math.abs(value - wanted.scores[i]) < 1e-3, `${value} ${wanted.scores[i]}`));
      sums.forEach((value, i) => assert(Math.abs(value - wanted.sums[i]) < 1e-4, `${value} ${wanted.sums[i]}`));
    }
  });
}

Deno.test("files of other recipes, layers and sizes that do not fit are refused; short caches have no codes", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(100, { model: BLOCK_MODEL });
  const other = (await codec.compress(cache, { recipe: "q8_0" })).bytes;
  await assertRejects(() => CodedAttention.open(other), KvzMismatchError, "recipe q8_0 1, expected kvcomp 1");
  using coded = await CodedAttention.open((await codec.compress(cache, { recipe: "kvcomp" })).bytes);
  const queries = uniform(2 * 64, 3, 1);
  const wanted = products(cache, 0, queries, uniform(200, 4, 1));
  (await coded.scores(0, queries)).forEach((value, i) => assert(Math.abs(value - wanted.scores[i]) < 1e-4));
  await assertRejects(() => coded.scores(2, queries), RangeError, "layer 2");
  await assertRejects(() => coded.scores(0, new Float32Array(64)), RangeError, "2 KV heads × 64");
  await assertRejects(() => coded.mix(0, new Float32Array(201)), RangeError, "2 KV heads × 100");
});
