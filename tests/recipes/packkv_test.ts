import { assert, assertEquals, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { toFloat32 } from "../../src/cache/elements.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { KINDS } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import type { CompressOptions } from "../../src/codec/options.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../src/errors.ts";
import { BitReader, BitWriter } from "../../src/stages/packkv/bits.ts";
import { readPacks, writePacks } from "../../src/stages/packkv/packs.ts";
import { type Repacking, repackOrder } from "../../src/stages/packkv/repack.ts";
import { quantizeRelative } from "../../src/stages/quantize/relative.ts";
import { random, syntheticCache } from "../synthetic.ts";
import { BLOCK_MODEL } from "./models.ts";
import { checkRecipe, roundTrip } from "./recipe_checks.ts";

checkRecipe({ recipe: "packkv", model: BLOCK_MODEL, error: 0.2, append: true, recent: 192, tokens: 330 });
checkRecipe({
  recipe: "packkv",
  options: { keyRel: 0.03, valueRel: 0.1, repack: "median", packTokens: 8 },
  model: BLOCK_MODEL,
  error: 0.2,
  append: true,
  recent: 192,
  tokens: 260,
});

const sample = await readSafetensors(await Deno.readFile("samples/smollm2-256.safetensors"));

Deno.test("packkv: the newest 128 to 191 tokens stay raw, all others within half a step of their token's range", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  for (const tokens of [191, 192, 255, 256, 300]) {
    const cache = syntheticCache(tokens, { model: BLOCK_MODEL, dtype: "f32" });
    const { cache: back } = await roundTrip(codec, cache, { recipe: "packkv", keyRel: 0.07 });
    const coded = Math.max(0, Math.floor((tokens + 64 - tokens % 64 - 192) / 64)) * 64;
    if (coded > 0) assert(tokens - coded >= 128 && tokens - coded <= 191);
    assert(back.slice(coded, tokens).equals(cache.slice(coded, tokens)));
    for (const kind of KINDS) {
      const dim = kind === "key" ? 64 : 32;
      const [a, b] = [cache, back].map((of) => toFloat32(of.read(kind, 0, tokens), "f32"));
      for (let layer = 0; layer < 2; layer++) {
        for (let t = 0; t < coded; t++) {
          const rows = [0, 1].map((head) => ((layer * 2 + head) * tokens + t) * dim);
          const values = rows.flatMap((at) => [...a.subarray(at, at + dim)]);
          const range = Math.max(...values) - Math.min(...values);
          for (const at of rows) {
            for (let i = at; i < at + dim; i++) assertLess(Math.abs(a[i] - b[i]), 0.07 * range / 2 * 1.001 + 1e-6);
          }
        }
      }
    }
  }
});

/** Symbols of a layer of the sample, [128][K channels, V channels], two blocks of 64 tokens. */
function sampleRows(
  layer: number,
  keyRel: number,
  valueRel: number,
): { rows: Uint8Array[]; channels: number; keys: number } {
  const { kvHeads: heads, keyDim, valueDim, layers } = sample.model;
  const tokens = 128;
  const [keys, values] = KINDS.map((kind) => {
    const dim = kind === "key" ? keyDim : valueDim;
    const shape = { layers, heads, tokens, dim, block: 64, grouping: "token" } as const;
    const x = toFloat32(sample.read(kind, 0, tokens), sample.dtype);
    const { symbols } = quantizeRelative(x, shape, kind === "key" ? keyRel : valueRel, String);
    return (t: number, c: number) => symbols[((layer * heads + Math.floor(c / dim)) * tokens + t) * dim + c % dim];
  });
  const [k, v] = [heads * keyDim, heads * valueDim];
  const rows = [0, 64].map((first) =>
    Uint8Array.from({ length: 64 * (k + v) }, (_, i) => {
      const [t, c] = [first + Math.floor(i / (k + v)), i % (k + v)];
      return c < k ? keys(t, c) : values(t, c - k);
    })
  );
  return { rows, channels: k + v, keys: k };
}

/** Bits of a block's offsets by the authors' arithmetic: Σ ⌈log2(max − min + 1)⌉ · pack, from the definition. */
function offsetBits(rows: Uint8Array, order: Uint8Array, channels: number, pack: number): number {
  let bits = 0;
  for (let first = 0; first < 64; first += pack) {
    for (let c = 0; c < channels; c++) {
      const values = [...order.subarray(first, first + pack)].map((t) => rows[t * channels + c]);
      bits += pack * Math.ceil(Math.log2(Math.max(...values) - Math.min(...values) + 1));
    }
  }
  return bits;
}

Deno.test("control: repacking makes the packs of a real cache smaller, greedy more than median", () => {
  const sums: Record<Repacking, number> = { none: 0, median: 0, greedy: 0 };
  for (const layer of [0, 7, 15, 29]) {
    const { rows, channels, keys } = sampleRows(layer, 0.1, 0.1);
    for (const how of ["none", "median", "greedy"] as const) {
      for (const block of rows) {
        const order = repackOrder(block, 64, channels, keys, 16, how);
        assertEquals([...order].sort((a, b) => a - b), Array.from({ length: 64 }, (_, t) => t));
        sums[how] += offsetBits(block, order, channels, 16);
      }
    }
  }
  assertLess(sums.median, sums.none);
  assertLess(sums.greedy, sums.median);
});

Deno.test("orders are the authors': medians fall, greedy picks by cosine and least increase (brute force)", () => {
  fc.assert(
    fc.property(fc.nat(), fc.constantFrom(4, 8, 16), fc.integer({ min: 1, max: 6 }), (seed, pack, half) => {
      const next = random(seed);
      const channels = 2 * half;
      const rows = Uint8Array.from({ length: 64 * channels }, () => Math.floor(9 * next()));
      const row = (t: number) => [...rows.subarray(t * channels, (t + 1) * channels)];
      const median = [...repackOrder(rows, 64, channels, half, pack, "median")].map((t) =>
        row(t).slice(half).sort((a, b) => a - b)[half - 1 >> 1]
      );
      assertEquals(median, [...median].sort((a, b) => b - a));

      const order = [...repackOrder(rows, 64, channels, half, pack, "greedy")];
      const left = new Set(Array.from({ length: 64 }, (_, t) => t));
      for (let first = 0; first < 64; first += pack) {
        const mean = Array.from(
          { length: channels },
          (_, c) => Math.round([...left].reduce((sum, t) => sum + row(t)[c], 0) / left.size),
        );
        const cosine = (t: number) => {
          const dot = row(t).reduce((sum, x, c) => sum + x * mean[c], 0);
          return dot / Math.max(1e-8, Math.hypot(...row(t)) * Math.hypot(...mean));
        };
        const best = Math.max(...[...left].map(cosine));
        assert(cosine(order[first]) >= best - 1e-12);
        left.delete(order[first]);
        for (let n = 1; n < pack; n++) {
          const cost = (t: number) => {
            const members = [...order.slice(first, first + n), t].map(row);
            let sum = 0;
            for (let c = 0; c < channels; c++) {
              const column = members.map((of) => of[c]);
              sum += Math.ceil(Math.log2(Math.max(...column) - Math.min(...column) + 1));
            }
            return sum;
          };
          assertEquals(cost(order[first + n]), Math.min(...[...left].map(cost)));
          left.delete(order[first + n]);
        }
      }
    }),
    { numRuns: 15 },
  );
});

Deno.test("packs come back, with the bits of the authors' arithmetic; cut streams are refused", () => {
  fc.assert(
    fc.property(fc.nat(), fc.constantFrom(4, 8, 16), fc.integer({ min: 1, max: 8 }), (seed, pack, width) => {
      const next = random(seed);
      const channels = 5;
      const rows = Uint8Array.from({ length: 64 * channels }, () => Math.floor(2 ** width * next() * next()));
      const [heads, codes] = [new BitWriter(), new BitWriter()];
      writePacks(rows, 64, channels, pack, width, heads, codes);
      const [h, c] = [heads.done(), codes.done()];
      const identity = Uint8Array.from({ length: 64 }, (_, t) => t);
      assertEquals(c.length, Math.ceil(offsetBits(rows, identity, channels, pack) / 8));
      assertEquals(h.length, Math.ceil(64 / pack * channels * (width + Math.ceil(Math.log2(width + 1))) / 8));
      const read = (h: Uint8Array, c: Uint8Array) =>
        readPacks(64, channels, pack, width, new BitReader(h, "heads"), new BitReader(c, "codes"));
      assertEquals(read(h, c), rows);
      for (const [a, b] of [[h.subarray(1), c], [h.subarray(0, -1), c], [h, c.subarray(0, -1)]]) {
        try {
          read(a, b);
        } catch (error) {
          assert(error instanceof KvzFormatError);
        }
      }
    }),
    { numRuns: 40 },
  );
});

/** softmax(q · K) · V of one layer and head over tokens [0, count), in float64. */
function attend(cache: KvCache, layer: number, head: number, query: Float64Array, count: number): number[] {
  const { keyDim, valueDim } = cache.model;
  const k = toFloat32(cache.key(layer, head), cache.dtype);
  const v = toFloat32(cache.value(layer, head), cache.dtype);
  const scores = Array.from(
    { length: count },
    (_, t) => query.reduce((sum, x, i) => sum + x * k[t * keyDim + i], 0) / Math.sqrt(keyDim),
  );
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const all = weights.reduce((a, b) => a + b);
  return Array.from(
    { length: valueDim },
    (_, i) => weights.reduce((sum, w, t) => sum + w / all * v[t * valueDim + i], 0),
  );
}

Deno.test("order free: other rows, the same attention, no bytes of order; refused for keys without rotation", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const cache = syntheticCache(330, { model: BLOCK_MODEL, dtype: "f32" });
  const kept = await roundTrip(codec, cache, { recipe: "packkv" });
  const free = await roundTrip(codec, cache, { recipe: "packkv", order: "free" });
  assert(!free.cache.equals(kept.cache));
  assertEquals(free.report.streams.JORD, 0);
  // 192 tokens of 2 layers.
  assertEquals(kept.report.streams.JORD, 192 * 2 * 6 / 8);
  assertEquals(free.report.paperRatio, kept.report.paperRatio);
  const next = random(5);
  for (const [layer, head] of [[0, 0], [1, 1]]) {
    const query = Float64Array.from({ length: 64 }, () => next() - next());
    const [a, b] = [kept.cache, free.cache].map((of) => attend(of, layer, head, query, 192));
    a.forEach((value, i) => assert(Math.abs(value - b[i]) < 1e-9));
  }
  const options: CompressOptions = { recipe: "packkv", order: "free" };
  const bare = syntheticCache(330, { model: { ...BLOCK_MODEL, rope: null } });
  await assertRejects(() => codec.compress(bare, options), KvzUnsupportedError, "keys are not rotated");
  assertEquals((await roundTrip(codec, bare, { recipe: "packkv" })).cache.tokens, 330);
});
