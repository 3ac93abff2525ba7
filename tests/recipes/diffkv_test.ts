import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { toFloat32 } from "../../src/cache/elements.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import type { ModelSpec } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { MemorySink, memorySource } from "../../src/container/bytes.ts";
import { FrameReader } from "../../src/container/frame_reader.ts";
import { FrameWriter } from "../../src/container/frame_writer.ts";
import * as errors from "../../src/errors.ts";
import { classify } from "../../src/stages/diffkv/classes.ts";
import {
  pageParts,
  type PageShape,
  pagesLength,
  type PageToken,
  readPages,
  writePages,
} from "../../src/stages/diffkv/pages.ts";
import { type Precision, PRECISION_NAMES, PRECISIONS } from "../../src/stages/diffkv/presets.ts";
import { decodeStream } from "../../src/stages/entropy/deflate.ts";
import { queriedCache, rebuilt } from "../evict/helpers.ts";
import { random, syntheticCache } from "../synthetic.ts";
import { BLOCK_MODEL } from "./models.ts";

const refuse = (): never => {
  throw new Error("no scale");
};

Deno.test("diffkv: a token of a head of 128 takes 208 bytes as K8V4, 112 as K4V2, scores and positions included", () => {
  const bytes = (name: "k8v4" | "k4v2" | "k8v8") =>
    pagesLength({ keyDim: 128, valueDim: 128, precision: PRECISIONS[name] }, 64) / 64;
  assertEquals([bytes("k8v4"), bytes("k4v2"), bytes("k8v8")], [208, 112, 272]);
  for (const name of PRECISION_NAMES) {
    for (const [keyDim, valueDim, tokens] of [[128, 128, 32], [64, 64, 5], [40, 36, 1]]) {
      const { length, ...begins } = pageParts({ keyDim, valueDim, precision: PRECISIONS[name] }, tokens);
      for (const at of [...Object.values(begins), length]) assertEquals(at % 32, 0);
      assertEquals(begins.value % 128, 0);
    }
  }
});

const anyToken = (shape: PageShape, next: () => number, spread: number): PageToken => ({
  key: Float32Array.from({ length: shape.keyDim }, () => spread * (next() - next()) + 0.1),
  value: Float32Array.from({ length: shape.valueDim }, () => spread * (next() - next())),
  score: Math.fround(next()),
  position: Math.floor(1e6 * next()),
});

Deno.test("diffkv: pages come back, no element off by more than half a step of its group", () => {
  const cases = fc.record({
    name: fc.constantFrom(...PRECISION_NAMES),
    keyDim: fc.constantFrom(4, 64, 128),
    valueDim: fc.constantFrom(8, 64),
    tokens: fc.nat(70),
    spread: fc.constantFrom(0, 1e-4, 1, 500),
    seed: fc.nat(),
  });
  fc.assert(fc.property(cases, ({ name, keyDim, valueDim, tokens, spread, seed }) => {
    const shape: PageShape = { keyDim, valueDim, precision: PRECISIONS[name] };
    const next = random(seed);
    const list = Array.from({ length: tokens }, () => anyToken(shape, next, spread));
    const out = new Uint8Array(pagesLength(shape, tokens));
    writePages(shape, list, out, refuse);
    let seen = 0;
    readPages(shape, out, tokens, (index, { key, value, score, position }) => {
      seen++;
      assertEquals([score, position], [list[index].score, list[index].position]);
      const within = (x: Float32Array, y: Float32Array, bits: number, groups: number) => {
        const size = x.length / groups;
        for (let first = 0; first < x.length; first += size) {
          const group = [...x.subarray(first, first + size)];
          const [low, high] = [Math.min(...group), Math.max(...group)];
          const step = (high - low) / (2 ** bits - 1);
          // Half a step; rounding of the offset, and of the scale over all codes.
          const bound = step / 2 + Math.abs(low) * 2 ** -11 + (high - low) * 2 ** -11 + 2 ** -24 * 2 ** bits;
          group.forEach((value, i) =>
            assert(Math.abs(value - y[first + i]) <= bound, `${value} ${y[first + i]} ${bound}`)
          );
        }
      };
      const { keyBits, valueBits, keyGroups, valueGroups } = shape.precision;
      within(list[index].key, key, keyBits, keyGroups);
      within(list[index].value, value, valueBits, valueGroups);
    });
    assertEquals(seen, tokens);
  }));
});

Deno.test("diffkv: classes by hand: the largest head counts, means over the queries that saw the token, the newest high", () => {
  const tokens = 200;
  const next = random(3);
  const sums = [0, 1].map(() => Float64Array.from({ length: tokens }, () => 64 * next() * next() / tokens * 2));
  const [classes, scores] = [new Uint8Array(tokens), new Float32Array(tokens)];
  classify(sums, { alphaHigh: 0.8, alphaLow: 0.1, buffer: 64 }, classes, scores);
  for (let t = 0; t < tokens; t++) {
    const score = Math.max(sums[0][t], sums[1][t]);
    assertEquals(scores[t], Math.fround(score));
    const share = score / Math.min(200 - t, 64) * 200;
    const wanted = t >= 136 ? 1 : share < 0.1 ? 0 : share < 0.8 ? 2 : 1;
    assertEquals(classes[t], wanted, `token ${t}`);
  }
  assert([0, 1, 2].every((c) => classes.includes(c)));
});

/** Mean attention of a KV head's tokens, straight from the definition. */
function meanAttention(cache: KvCache, layer: number, head: number): number[] {
  const { keyDim: dim, kvHeads } = cache.model;
  const queries = cache.queries!;
  const group = queries.heads / kvHeads;
  const k = toFloat32(cache.key(layer, head), cache.dtype);
  const q = toFloat32(queries.layers[layer], queries.dtype);
  const best = new Array(cache.tokens).fill(0);
  for (let h = head * group; h < (head + 1) * group; h++) {
    const sums = new Array(cache.tokens).fill(0);
    for (let r = queries.tokens - 64; r < queries.tokens; r++) {
      const seen = cache.tokens - queries.tokens + r + 1;
      const weights = Array.from({ length: seen }, (_, t) => {
        let dot = 0;
        for (let i = 0; i < dim; i++) dot += q[(h * queries.tokens + r) * dim + i] * k[t * dim + i];
        return Math.exp(dot / Math.sqrt(dim));
      });
      const all = weights.reduce((a, b) => a + b);
      weights.forEach((weight, t) => sums[t] += weight / all);
    }
    sums.forEach((sum, t) => best[t] = Math.max(best[t], sum));
  }
  return best.map((sum, t) => sum / Math.min(cache.tokens - t, 64));
}

Deno.test("diffkv: restores a ragged cache: pruned tokens are gone, the newest 64 high, the others by their attention", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const tokens = 260;
  const cache = queriedCache(tokens, 80, { model: BLOCK_MODEL, dtype: "f32", firstPosition: 7 });
  const [alphaHigh, alphaLow] = [1.05, 0.95];
  const { bytes, report } = await codec.compress(cache, { recipe: "diffkv", alphaHigh, alphaLow });
  const back = (await codec.decompress(bytes)).cache;
  assert(back.ragged);
  const counts = [0, 0, 0];
  let size = 0;
  for (let layer = 0; layer < 2; layer++) {
    for (let head = 0; head < 2; head++) {
      const mean = meanAttention(cache, layer, head);
      const kept = new Set(back.positionsOf(layer, head));
      const [a, b] = [cache, back].map((of) => toFloat32(of.key(layer, head), "f32"));
      const own = [0, 0, 0];
      let row = 0;
      for (let t = 0; t < tokens; t++) {
        const share = mean[t] * tokens;
        const c = t >= tokens - 64 ? 1 : share < alphaLow ? 0 : share < alphaHigh ? 2 : 1;
        own[c]++;
        assertEquals(kept.has(7 + t), c !== 0, `layer ${layer}, head ${head}, token ${t}`);
        if (c === 0) continue;
        const x = a.subarray(t * 64, (t + 1) * 64);
        const range = Math.max(...x) - Math.min(...x);
        const error = Math.max(...x.map((value, i) => Math.abs(value - b[row * 64 + i])));
        // K8 and K4 tell themselves by their errors.
        const step = range / (c === 1 ? 255 : 15);
        assertLess(error, step * 0.52 + 0.004);
        if (c === 2) assert(error > range / 255, `token ${t} is kept too precisely`);
        row++;
      }
      assertEquals(row, back.keptTokens(layer, head));
      own.forEach((count, c) => counts[c] += count);
      const shape = { keyDim: 64, valueDim: 32 };
      size += pagesLength({ ...shape, precision: PRECISIONS.k8v4 }, own[1]) +
        pagesLength({ ...shape, precision: PRECISIONS.k4v2 }, own[2]);
    }
  }
  assert(counts.every((count) => count > 20), counts.join());
  assertEquals(report.streams.PAGE, size);
  const layers = (await codec.decompress(bytes, { layers: [1, 2] })).cache;
  assertEquals(layers.key(0, 1), back.key(1, 1));
  const moved = (await codec.decompress(bytes, { firstPosition: 100 })).cache;
  assertEquals(moved.positionsOf(1, 0), back.positionsOf(1, 0).map((p) => p + 93));
  assertEquals(moved.value(1, 0), back.value(1, 0));
});

Deno.test("diffkv: thresholds 0 keep all high; the same bytes on all backends; short caches need no queries", async () => {
  const cache = queriedCache(150, 64, { model: BLOCK_MODEL });
  const options = { recipe: "diffkv", alphaHigh: 0, alphaLow: 0 } as const;
  await using codec = await openCodec(null, { threads: 1 });
  const { bytes } = await codec.compress(cache, options);
  assert(!(await codec.decompress(bytes)).cache.ragged);
  const settings = { recipe: "diffkv", alphaHigh: 1.1, alphaLow: 0.3 } as const;
  const first = (await codec.compress(cache, settings)).bytes;
  for (const other of [{ backend: "reference", threads: 1 }, { threads: 2 }] as const) {
    await using second = await openCodec(null, other);
    assertEquals((await second.compress(cache, settings)).bytes, first);
  }
  const short = syntheticCache(64, { model: BLOCK_MODEL });
  const back = (await codec.decompress((await codec.compress(short, { recipe: "diffkv" })).bytes)).cache;
  assertEquals([back.tokens, back.ragged], [64, false]);
  assertEquals(
    (await codec.compress(syntheticCache(0, { model: BLOCK_MODEL, inputIds: false }), options)).report.tokens,
    0,
  );
});

Deno.test("diffkv: what it needs and what does not fit is refused by name", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const { KvzUnsupportedError } = errors;
  const cache = queriedCache(150, 64, { model: BLOCK_MODEL });
  const bare = syntheticCache(150, { model: BLOCK_MODEL });
  await assertRejects(
    () => codec.compress(bare, { recipe: "diffkv" }),
    KvzUnsupportedError,
    "needs queries of at least 64",
  );
  const few = rebuilt(bare, { queries: { ...queriedCache(150, 63, { model: BLOCK_MODEL }).queries! } });
  await assertRejects(() => codec.compress(few, { recipe: "diffkv" }), KvzUnsupportedError, "those of 63");
  for (
    const [change, words] of [
      [{ alphaHigh: 1, alphaLow: 2 }, "at most alphaHigh, 1"],
      [{ high: "k4v8" as "k4v4" }, "expected k8v8"],
      [{ buffer: 0 }, "buffer"],
    ] as const
  ) {
    await assertRejects(() => codec.compress(cache, { recipe: "diffkv", ...change }), RangeError, words);
  }
  const odd: ModelSpec = { ...BLOCK_MODEL, valueDim: 30 };
  const oddCache = queriedCache(150, 64, { model: odd });
  await assertRejects(
    () => codec.compress(oddCache, { recipe: "diffkv", low: "k4v2g4" }),
    KvzUnsupportedError,
    "no 2 and 4 groups",
  );
  const { bytes } = await codec.compress(cache, { recipe: "diffkv" });
  await assertRejects(() => codec.append(bytes, cache), KvzUnsupportedError);
});

Deno.test("diffkv: any bytes in its streams give a typed error or a cache", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = queriedCache(150, 64, { model: BLOCK_MODEL });
  const { bytes } = await codec.compress(cache, { recipe: "diffkv", alphaHigh: 1.1, alphaLow: 0.3 });
  const reader = await FrameReader.open(memorySource(bytes), "cache");
  const damage = fc.record({
    tag: fc.constantFrom("PAGE", "KEPT"),
    at: fc.nat(),
    with: fc.uint8Array({ minLength: 1, maxLength: 16 }),
    cut: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(damage, async ({ tag, at, with: other, cut }) => {
      const sink = new MemorySink();
      const writer = new FrameWriter(sink, "cache", reader.header);
      await writer.start();
      for (const info of reader.records) {
        const stored = (await reader.read(info)).slice();
        if (info.tag !== tag) {
          await writer.writeRecord(info, stored);
          continue;
        }
        let payload = (await decodeStream({ ...info, bytes: stored }, info.rawLength, "stream")).slice();
        const begin = at % payload.length;
        if (cut) payload = payload.slice(0, begin);
        else payload.set(other.subarray(0, payload.length - begin), begin);
        await writer.writeRecord({ ...info, codec: "raw", rawLength: payload.length }, payload);
      }
      await writer.finish();
      try {
        await codec.decompress(sink.bytes());
      } catch (error) {
        assert(Object.values(errors).some((kind) => error instanceof kind), `${error}`);
      }
    }),
    { numRuns: 120 },
  );
});

/** softmax(q · K ÷ √d) · V of a query over a head's tokens. */
function attend(query: Float32Array, keys: readonly Float32Array[], values: readonly Float32Array[]): Float64Array {
  const scores = keys.map((key) => key.reduce((sum, x, i) => sum + x * query[i], 0) / Math.sqrt(query.length));
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const all = weights.reduce((a, b) => a + b);
  const out = new Float64Array(values[0].length);
  weights.forEach((weight, t) => values[t].forEach((x, i) => out[i] += weight / all * x));
  return out;
}

Deno.test("control: keys need the bits: K4V8 changes attention more than K8V4 of as many bits, on a real cache", async () => {
  const cache = await readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors"));
  const { keyDim, valueDim } = cache.model;
  const restore = (precision: Precision, list: readonly PageToken[]) => {
    const shape: PageShape = { keyDim, valueDim, precision };
    const out = new Uint8Array(pagesLength(shape, list.length));
    writePages(shape, list, out, refuse);
    const back: PageToken[] = [];
    readPages(
      shape,
      out,
      list.length,
      (_, token) => back.push({ ...token, key: token.key.slice(), value: token.value.slice() }),
    );
    return { back, bytes: out.length };
  };
  const error = { k8v4: 0, k4v8: 0 };
  for (const [layer, head] of [[0, 0], [5, 1], [12, 2], [20, 0], [29, 1]]) {
    const [k, v] = [toFloat32(cache.key(layer, head), cache.dtype), toFloat32(cache.value(layer, head), cache.dtype)];
    const list = Array.from({ length: cache.tokens }, (_, t): PageToken => ({
      key: k.subarray(t * keyDim, (t + 1) * keyDim),
      value: v.subarray(t * valueDim, (t + 1) * valueDim),
      score: 0,
      position: t,
    }));
    const made = {
      k8v4: restore(PRECISIONS.k8v4, list),
      k4v8: restore({ keyBits: 4, valueBits: 8, keyGroups: 1, valueGroups: 1 }, list),
    };
    assertEquals(made.k8v4.bytes, made.k4v8.bytes);
    // Keys stand for queries: they are what the model's queries look for.
    for (let t = 0; t < cache.tokens; t += 16) {
      const wanted = attend(list[t].key, list.map(({ key }) => key), list.map(({ value }) => value));
      for (const name of ["k8v4", "k4v8"] as const) {
        const { back } = made[name];
        const found = attend(list[t].key, back.map(({ key }) => key), back.map(({ value }) => value));
        error[name] += wanted.reduce((sum, x, i) => sum + (x - found[i]) ** 2, 0) /
          wanted.reduce((sum, x) => sum + x ** 2, 0);
      }
    }
  }
  assertLess(error.k8v4, 0.75 * error.k4v8, JSON.stringify(error));
});
