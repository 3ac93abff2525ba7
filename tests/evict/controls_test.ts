/** What makes each method the method: positive controls, each of which fails when the defining step is left out. */
import { assert, assertAlmostEquals, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { toFloat32 } from "../../src/cache/elements.ts";
import { expOfNegative } from "../../src/cache/exponential.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { channelScores, packMasks, unpackMasks } from "../../src/stages/channels/think.ts";
import { attentionSums } from "../../src/stages/tokens/attention.ts";
import { authorsBudgets, kvpressBudgets } from "../../src/stages/tokens/budgets.ts";
import { poolScores, topIndices } from "../../src/stages/tokens/scores.ts";
import { random, SMALL_MODEL, syntheticCache } from "../synthetic.ts";
import { cacheOf } from "../recipes/recipe_checks.ts";
import { keptTokens, queriedCache, randomQueries, rebuilt } from "./helpers.ts";

async function restored(cache: KvCache, options: CompressOptions): Promise<KvCache> {
  await using codec = await openCodec(null, { threads: 1 });
  return (await codec.decompress((await codec.compress(cache, options)).bytes)).cache;
}

const numbers = (length: number, seed: number) => {
  const next = random(seed);
  return Float32Array.from({ length }, () => next() * 4 - 2);
};

Deno.test("the exponential is that of the engine within two units in the last place", () => {
  fc.assert(fc.property(fc.double({ min: -700, max: 0, noNaN: true }), (x) => {
    assert(Math.abs(expOfNegative(x) - Math.exp(x)) <= 2 ** -51 * Math.exp(x), `${x}`);
  }));
  assertEquals([expOfNegative(0), expOfNegative(-Infinity), expOfNegative(-800)], [1, 0, 0]);
});

Deno.test("property: attention is the causal softmax, by brute force", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 9 }), fc.nat(), (tokens, dim, seed) => {
      const window = 1 + seed % tokens;
      const [keys, queries] = [numbers(tokens * dim, seed), numbers(window * dim, seed + 1)];
      const wanted = new Float64Array(tokens);
      for (let r = 0; r < window; r++) {
        const dots = Array.from({ length: tokens - window + r + 1 }, (_, t) => {
          let dot = 0;
          for (let i = 0; i < dim; i++) dot += queries[r * dim + i] * keys[t * dim + i];
          return Math.exp(dot / Math.sqrt(dim));
        });
        const total = dots.reduce((a, b) => a + b);
        dots.forEach((x, t) => wanted[t] += x / total);
      }
      const found = attentionSums(queries, { keys, tokens, window, dim });
      found.forEach((x, t) => assertAlmostEquals(x, wanted[t], 1e-12));
      assertAlmostEquals(found.reduce((a, b) => a + b), window, 1e-9);
    }),
  );
});

Deno.test("pooling as PyTorch pools; the first of equal scores is taken", () => {
  const scores = Float64Array.of(1, 5, 0, 0, 2, 9);
  assertEquals(Array.from(poolScores(scores, 5, "avg", 3)), [2, 2, 5 / 3, 2 / 3, 2 / 3]);
  assertEquals(Array.from(poolScores(scores, 5, "max", 3)), [5, 5, 5, 2, 2]);
  assertEquals(Array.from(poolScores(scores, 5, "none", 3)), [1, 5, 0, 0, 2]);
  assertEquals(topIndices([3, 1, 3, 2, 3], 2), [0, 2]);
});

Deno.test("property: pyramidkv's budgets add up to layers × capacity and fall", () => {
  const shape = fc.record({
    layers: fc.integer({ min: 1, max: 80 }),
    tokens: fc.integer({ min: 1, max: 9000 }),
    window: fc.integer({ min: 1, max: 64 }),
    beta: fc.integer({ min: 1, max: 40 }),
  });
  fc.assert(fc.property(shape, fc.integer({ min: 1, max: 3000 }), (shape, more) => {
    const { layers, tokens, window } = shape;
    const capacity = window + more;
    const budgets = authorsBudgets(shape, capacity);
    const excess = budgets.reduce((a, b) => a + b) - layers * Math.min(capacity, tokens);
    assert(0 <= excess && excess <= layers * (layers - 1) / 2, `${excess}`);
    budgets.forEach((budget, layer) => {
      assert(Math.min(window, tokens) <= budget && budget <= tokens, `${budget}`);
      if (layer > 0) assert(budget <= budgets[layer - 1]);
    });
    const share = Math.min(1, capacity / tokens);
    const others = kvpressBudgets(shape, share);
    // One layer has the pyramid's first budget in kvpress.
    if (layers > 1) {
      const sum = others.reduce((a, b) => a + b);
      assert(Math.abs(sum - layers * tokens * share) <= layers, `${sum}`);
    }
    others.forEach((budget, layer) => assert(layer === 0 || budget <= others[layer - 1]));
  }));
  // The paper's shape: β = 20, the last layer has a twentieth of the mean before the window is added.
  const budgets = authorsBudgets({ layers: 32, tokens: 8192, window: 64, beta: 20 }, 320);
  assertEquals([budgets[0], budgets[31]], [64 + 500, 64 + 500 - 31 * Math.floor(488 / 31)]);
});

Deno.test("property: think's score is the Frobenius norm of the outer product", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 8 }), fc.nat(), (tokens, dim, seed) => {
      const rows = 1 + seed % 5;
      const [keys, queries] = [numbers(tokens * dim, seed), numbers(rows * dim, seed + 1)];
      const scores = channelScores([queries], keys, dim);
      for (let j = 0; j < dim; j++) {
        let norm = 0;
        for (let r = 0; r < rows; r++) {
          for (let t = 0; t < tokens; t++) norm += (queries[r * dim + j] * keys[t * dim + j]) ** 2;
        }
        assertAlmostEquals(scores[j] * rows * tokens, norm, 1e-9 * (1 + norm));
      }
    }),
  );
});

Deno.test("property: masks of channels come back, other padding is refused", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 20 }), fc.nat(), (dim, seed) => {
    const masks = Uint8Array.from(numbers(3 * dim, seed), (x) => Number(x > 0));
    const packed = packMasks(masks, dim);
    assertEquals(packed.length, 3 * Math.ceil(dim / 8));
    assertEquals(unpackMasks(packed, 3, dim), masks);
    if (dim % 8 !== 0) assertEquals(unpackMasks(packed.with(-1 + packed.length, 255), 3, dim), null);
  }));
});

Deno.test("streamingllm keeps sinks and the newest tokens in every head", async () => {
  const cache = syntheticCache(200);
  const wanted = Array.from({ length: 200 }, (_, t) => t).filter((t) => t < 4 || t >= 154);
  const found = keptTokens(await restored(cache, { recipe: "streamingllm", capacity: 50 }), cache.positions);
  assertEquals(found, Array(3).fill(Array(2).fill(wanted)));
});

Deno.test("snapkv, pyramidkv and h2o keep a token that is looked at, and its neighbours where scores are pooled", async () => {
  const next = random(5);
  const noise = Array.from({ length: 997 }, () => next() * 2 - 1);
  const sign = (i: number) => i % 2 === 0 ? 1 : -1;
  const base = cacheOf(
    SMALL_MODEL,
    300,
    "f32",
    (kind, layer, head, t, i) =>
      kind === "key" && t === 77 ? 3 * sign(i) : noise[(layer * 31 + head * 17 + t * 13 + i * 7) % 997],
  );
  // All queries point at the key of token 77.
  const row = Float32Array.from({ length: 4 * 32 * 10 }, (_, i) => 3 * sign(i % 10));
  const layers = Array.from({ length: 3 }, () => new Uint8Array(row.slice().buffer));
  const looking = rebuilt(base, { queries: { dtype: "f32", heads: 4, tokens: 32, layers } });
  const away = rebuilt(base, {
    queries: {
      dtype: "f32",
      heads: 4,
      tokens: 32,
      layers: layers.map((x) => new Uint8Array(new Float32Array(x.buffer).map((y) => -y).buffer)),
    },
  });
  for (
    const [neighbours, options] of [
      [2, { recipe: "snapkv", capacity: 40, window: 32 }],
      [2, { recipe: "snapkv", capacity: 40, window: 32, pooling: "max" }],
      [0, { recipe: "snapkv", capacity: 40, window: 32, pooling: "none" }],
      [2, { recipe: "pyramidkv", capacity: 44, window: 32, beta: 2 }],
      [0, { recipe: "h2o", capacity: 40 }],
    ] as const
  ) {
    for (const tokens of keptTokens(await restored(looking, options), base.positions).flat()) {
      for (let t = 77 - neighbours; t <= 77 + neighbours; t++) assert(tokens.includes(t), `${options.recipe}: ${t}`);
      assertEquals(tokens.at(-1), 299);
    }
    // A neighbour of what is looked at instead would be kept by pooling.
    if (neighbours > 0) continue;
    const others = keptTokens(await restored(away, options), base.positions).flat();
    assert(others.every((tokens) => !tokens.includes(77)), options.recipe);
  }
});

Deno.test("h2o: half of the tokens are the newest, the scores add up over the queries that were captured", async () => {
  const cache = queriedCache(100, 100, { dtype: "f32" });
  const kept = keptTokens(await restored(cache, { recipe: "h2o", capacity: 21 }), cache.positions);
  for (const tokens of kept.flat()) {
    assertEquals(tokens.length, 21);
    assertEquals(tokens.slice(11), [90, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
  }
  // Fewer queries choose otherwise.
  const few = rebuilt(cache, { queries: cache.slice(0, 100).queries! });
  assertEquals(keptTokens(await restored(few, { recipe: "h2o", capacity: 21 }), cache.positions), kept);
  const last = rebuilt(cache, { queries: cache.slice(92, 100).queries! });
  assert(
    JSON.stringify(keptTokens(await restored(last, { recipe: "h2o", capacity: 21 }), cache.positions)) !==
      JSON.stringify(kept),
  );
});

Deno.test("think leaves out λ of the channels of all but the recent keys, and no value", async () => {
  const model = { ...SMALL_MODEL, keyDim: 16, rope: { ...SMALL_MODEL.rope!, dim: 16 } };
  const cache = queriedCache(120, 40, { model, dtype: "f32" });
  const back = await restored(cache, { recipe: "think", prune: 0.4, recent: 20 });
  assertEquals(back.read("value", 0, 120), cache.read("value", 0, 120));
  assertEquals(back.read("key", 100, 120), cache.read("key", 100, 120));
  let [lost, all] = [0, 0];
  for (let layer = 0; layer < 3; layer++) {
    for (let head = 0; head < 2; head++) {
      const [x, y] = [cache, back].map((c) => toFloat32(c.key(layer, head), "f32").subarray(0, 100 * 16));
      const zero = Array.from({ length: 16 }, (_, j) => y.every((value, i) => i % 16 !== j || value === 0));
      assertEquals(zero.filter(Boolean).length, Math.floor(0.4 * 16));
      y.forEach((value, i) => assertEquals(value, zero[i % 16] ? 0 : x[i]));
      const { queries } = cache;
      for (let q = 0; q < 2; q++) {
        const bytes = queries!.layers[layer].subarray((head * 2 + q) * 40 * 64, (head * 2 + q + 1) * 40 * 64);
        const rows = toFloat32(bytes, "f32");
        for (let r = 8; r < 40; r++) {
          for (let t = 0; t < 100; t++) {
            for (let j = 0; j < 16; j++) {
              const term = (rows[r * 16 + j] * x[t * 16 + j]) ** 2;
              all += term;
              if (zero[j]) lost += term;
            }
          }
        }
      }
    }
  }
  // The least channels: less than their share of the attention scores' energy.
  assertLess(lost / all, 0.25);
});

Deno.test("missing and too few queries are refused, and told where to get them", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const refuse = async (cache: KvCache, options: CompressOptions, words: string) =>
    await assertRejects(() => codec.compress(cache, options), KvzUnsupportedError, words);
  const without = syntheticCache(200);
  await refuse(
    without,
    { recipe: "snapkv", keep: 0.5 },
    "needs queries of at least 64 last tokens, the cache has none",
  );
  await refuse(without, { recipe: "pyramidkv", keep: 0.5 }, "pyramidkv: it needs queries");
  await refuse(without, { recipe: "h2o" }, "captureCache");
  await refuse(without, { recipe: "think" }, "needs queries of at least 32 last tokens");
  await refuse(queriedCache(200, 31), { recipe: "think" }, "the cache has those of 31");
  const queries = randomQueries(SMALL_MODEL, 4, 64);
  const at = ((1 * 64 + 5) * 10 + 2) * 4;
  new DataView(queries.layers[2].buffer).setFloat32(at, NaN, true);
  await refuse(rebuilt(without, { queries }), { recipe: "snapkv", keep: 0.5 }, "query of layer 2, head 1, token 141");
});

Deno.test("options out of range, and budgets that hold no window, are refused by name", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = queriedCache(200, 64);
  for (
    const [options, kind, words] of [
      [{ recipe: "snapkv", keep: 0.25 }, RangeError, '"window": it is 64, a head keeps 50 tokens'],
      [{ recipe: "pyramidkv", keep: 0.25, window: 60 }, RangeError, '"window"'],
      [{ recipe: "streamingllm", capacity: 4 }, RangeError, '"sinks": it is 4, a head keeps 4'],
      [{ recipe: "snapkv", keep: 0.5, capacity: 50 }, TypeError, "together"],
      [{ recipe: "snapkv", keep: 0 }, RangeError, '"keep"'],
      [{ recipe: "snapkv", kernel: 4 }, RangeError, "odd"],
      [{ recipe: "snapkv", pooling: "sum" }, RangeError, '"pooling": it is sum, expected avg, max, none'],
      [{ recipe: "pyramidkv", beta: 0.5 }, RangeError, '"beta"'],
      [{ recipe: "think", prune: 1.5 }, RangeError, '"prune"'],
      [{ recipe: "think", after: "snapkv", keep: 0.5, recent: 80 }, RangeError, '"recent": it is 80'],
      [{ recipe: "think", after: "h2o" }, RangeError, '"after"'],
      [{ recipe: "h2o", window: 4 }, RangeError, 'option "window"'],
      [{ recipe: "snapkv", fileRatio: 4 }, TypeError, "nothing that changes it"],
    ] as const
  ) {
    await assertRejects(() => codec.compress(cache, options as CompressOptions), kind, words);
  }
});
