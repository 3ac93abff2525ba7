import { assert, assertAlmostEquals, assertEquals, assertGreater, assertLess, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { asUint16, fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import { type Kind, KINDS, type ModelSpec } from "../../src/cache/types.ts";
import { openCodec } from "../../src/codec/open.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import { calibrateKvquant } from "../../src/profile/kvquant/calibrate.ts";
import { kvquantFingerprint } from "../../src/profile/kvquant/fingerprint.ts";
import {
  codebookAt,
  KVQUANT_BITS,
  KVQUANT_ENTRIES,
  KVQUANT_OUTLIERS,
  type KvquantProfile,
  thresholdsAt,
} from "../../src/profile/kvquant/types.ts";
import { fillGaussian } from "../../src/profile/random.ts";
import { outliersASide, TokenOutliers } from "../../src/stages/quantize/nuq.ts";
import { relativeError } from "../codec/helpers.ts";
import { random, syntheticCache, syntheticProfile } from "../synthetic.ts";
import golden from "./kvquant_golden.json" with { type: "json" };
import { BLOCK_MODEL } from "./models.ts";
import { plainRow } from "./plain_kvquant.ts";
import { cacheOf, checkRecipe, roundTrip } from "./recipe_checks.ts";

const CALIBRATION = [21, 22].map((seed) => syntheticCache(400, { model: BLOCK_MODEL, seed }));
const PROFILE = await calibrateKvquant(CALIBRATION);

checkRecipe({ recipe: "kvquant", profile: PROFILE, model: BLOCK_MODEL, error: 0.14, append: true, zeros: false });
checkRecipe({
  recipe: "kvquant",
  options: { bits: 4, sinks: 0 },
  profile: PROFILE,
  model: BLOCK_MODEL,
  error: 0.09,
  append: true,
  zeros: false,
});
checkRecipe({
  recipe: "kvquant",
  options: { bits: 2, outliers: 0 },
  profile: PROFILE,
  model: BLOCK_MODEL,
  error: 0.4,
  append: true,
  zeros: false,
});

const bytesOf = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const floats = (text: string) => new Float32Array(bytesOf(text).buffer);

const GOLDEN_MODEL: ModelSpec = {
  ...BLOCK_MODEL,
  id: "golden",
  layers: 1,
  kvHeads: golden.heads,
  keyDim: golden.dim,
  valueDim: golden.dim,
  rope: null,
};
const GOLDEN_CACHE = new KvCache({
  model: GOLDEN_MODEL,
  dtype: "f16",
  positions: Int32Array.from({ length: golden.tokens }, (_, t) => t),
  layers: [{ key: bytesOf(golden.key.x), value: bytesOf(golden.value.x) }],
});

/** Blocks with the golden weights as diagonals, and entries beside them that mean nothing here. */
function goldenBlocks() {
  const { heads, dim } = golden;
  const blocks = (kind: Kind) => {
    const weights = floats(golden[kind].weights);
    return Float64Array.from({ length: heads * dim * dim }, (_, at) => {
      const [c, j] = [Math.floor(at / dim), at % dim];
      const first = c - c % dim;
      // No more than the least of the diagonal: second moments may have it.
      return j === c % dim ? weights[c] : Math.min(...weights.slice(first, first + dim));
    });
  };
  return { source: "fisher", key: blocks("key"), value: blocks("value") } as const;
}

/** The share of outliers that the golden vectors have. */
const SET = KVQUANT_OUTLIERS.indexOf(1);

Deno.test("kvquant: thresholds, codebooks and Q-Norm are those that numpy finds on the same tokens", async () => {
  const profile = await calibrateKvquant([GOLDEN_CACHE], { sinks: 0, sensitivity: goldenBlocks() });
  const at = thresholdsAt(GOLDEN_MODEL, SET, 0);
  const wanted = floats(golden.key.thresholds);
  profile.thresholds.subarray(at, at + wanted.length).forEach((x, i) => assertAlmostEquals(x, wanted[i], 1e-5));
  for (const kind of KINDS) {
    for (const bits of KVQUANT_BITS) {
      const { codebook, norm } = golden[kind][`${bits}`];
      const place = codebookAt(GOLDEN_MODEL, SET, kind, 0, bits);
      // Points are means of cells of 1/8192: an element at a border may be on its other side.
      floats(codebook).forEach((x, i) => assertAlmostEquals(profile.codebooks[place.entries + i], x, 2e-3));
      norm.forEach((x, i) => assertAlmostEquals(profile.norms[place.norm + i], x, 3e-3));
    }
  }
});

Deno.test("kvquant: what is restored is what numpy restores, bit by bit", async () => {
  const profile = structuredClone({ ...PROFILE, ...await calibrateKvquant([GOLDEN_CACHE], { sinks: 0 }) });
  profile.thresholds.set(floats(golden.key.thresholds), thresholdsAt(GOLDEN_MODEL, SET, 0));
  for (const kind of KINDS) {
    for (const bits of KVQUANT_BITS) {
      const place = codebookAt(GOLDEN_MODEL, SET, kind, 0, bits);
      profile.codebooks.set(floats(golden[kind][`${bits}`].codebook), place.entries);
      profile.norms.set(golden[kind][`${bits}`].norm, place.norm);
    }
  }
  await using codec = await openCodec(profile, { threads: 1 });
  for (const [bits, qnorm] of [[4, "off"], [3, "off"], [2, "off"], [2, "on"]] as const) {
    const options = { recipe: "kvquant", bits, qnorm, sinks: 0 };
    const { cache: back, report } = await roundTrip(codec, GOLDEN_CACHE, options);
    for (const kind of KINDS) {
      const of = golden[kind][`${bits}`] as { plain: string; qnorm?: string };
      const wanted = bytesOf(qnorm === "on" ? of.qnorm! : of.plain);
      assertEquals(asUint16(back.read(kind, 0, golden.tokens)), asUint16(wanted), `${kind}, ${bits} bits, ${qnorm}`);
      assertEquals(report.streams[kind === "key" ? "KOUT" : "VOUT"], 4 * golden[kind].outliers);
    }
  }
});

Deno.test("kvquant: outliers of a token are as many as quantiles leave beyond them", () => {
  for (const [channels, percent, count] of golden.aSide) assertEquals(outliersASide(channels, percent), count);
  assertEquals([1, 2, 3].map((channels) => outliersASide(channels, 1)), [0, 0, 1]);
  assertEquals(outliersASide(64, 0), 0);
  // Equal elements: no more than so many, none twice, the first ones.
  const found = new TokenOutliers(5, 2);
  found.find(new Float32Array(5).fill(3));
  assertEquals([[...found.marks], found.low, found.high], [[1, 1, 1, 1, 0], 3, 3]);
});

/** A profile of one layer with given thresholds and codebooks of `bits`. */
async function profileOf(
  model: ModelSpec,
  bits: number,
  percent: number,
  thresholds: readonly (readonly [number, number])[],
  codebooks: Readonly<Record<Kind, ArrayLike<number>>>,
): Promise<KvquantProfile> {
  const set = (KVQUANT_OUTLIERS as readonly number[]).indexOf(percent);
  const channels = model.kvHeads * model.keyDim;
  const parts = {
    model,
    thresholds: new Float32Array(KVQUANT_OUTLIERS.length * channels * 2),
    codebooks: new Float32Array(KVQUANT_OUTLIERS.length * 2 * KVQUANT_ENTRIES),
    norms: new Float32Array(KVQUANT_OUTLIERS.length * 2 * KVQUANT_BITS.length * 2),
  };
  parts.thresholds.set(thresholds.flat(), thresholdsAt(model, set, 0));
  for (const kind of KINDS) {
    const place = codebookAt(model, set, kind, 0, bits);
    parts.codebooks.set(codebooks[kind], place.entries);
    parts.norms.set([1.25, -0.125], place.norm);
  }
  return { ...PROFILE, ...parts, fingerprint: await kvquantFingerprint(parts) };
}

Deno.test("kvquant: rows of any numbers come back as the plain twin has them", async () => {
  const model: ModelSpec = { ...BLOCK_MODEL, layers: 1, kvHeads: 2, keyDim: 3, valueDim: 5, rope: null };
  const numbers = (length: number) =>
    fc.uniqueArray(fc.integer({ min: -2000, max: 2000 }), { minLength: length, maxLength: length })
      .map((all) => all.map((n) => n / 16));
  const rising = (length: number) => numbers(length).map((all) => all.map((x) => x / 250).sort((a, b) => a - b));
  const setting = fc.constantFrom(...KVQUANT_BITS).chain((bits) =>
    fc.record({
      bits: fc.constant(bits),
      percent: fc.constantFrom(...KVQUANT_OUTLIERS),
      qnorm: fc.constantFrom("on", "off"),
      thresholds: fc.array(numbers(2).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const), {
        minLength: 6,
        maxLength: 6,
      }),
      key: rising(1 << bits),
      value: rising(1 << bits),
      rows: fc.array(fc.record({ key: numbers(6), value: numbers(10) }), { minLength: 1, maxLength: 4 }),
    })
  );
  await fc.assert(
    fc.asyncProperty(setting, async ({ bits, percent, qnorm, thresholds, key, value, rows }) => {
      const books = { key: Float32Array.from(key), value: Float32Array.from(value) };
      await using codec = await openCodec(await profileOf(model, bits, percent, thresholds, books), { threads: 1 });
      const cache = cacheOf(
        model,
        rows.length,
        "f32",
        (kind, _l, head, token, i) => rows[token][kind][head * (kind === "key" ? 3 : 5) + i],
      );
      const { cache: back } = await roundTrip(
        codec,
        cache,
        { recipe: "kvquant", bits, outliers: percent, qnorm, sinks: 0 } as object,
      );
      for (const kind of KINDS) {
        const dim = kind === "key" ? 3 : 5;
        const restored = toFloat32(back.read(kind, 0, rows.length), "f32");
        rows.forEach((row, t) => {
          const wanted = plainRow(row[kind], {
            thresholds: kind === "key" ? thresholds : null,
            outliers: percent,
            codebook: books[kind],
            ...(qnorm === "on" ? { norm: [1.25, -0.125] as const } : {}),
          });
          wanted.forEach((x, c) => {
            const at = (Math.floor(c / dim) * rows.length + t) * dim + c % dim;
            assertAlmostEquals(restored[at], x, 1e-4, `${kind} ${t} ${c}`);
          });
        });
      }
    }),
    { numRuns: 150 },
  );
});

Deno.test("kvquant: bytes are codes, thresholds of values and outliers, each counted", async () => {
  await using codec = await openCodec(PROFILE, { threads: 1 });
  const rows = 2 * 399;
  for (const bits of KVQUANT_BITS) {
    for (const outliers of KVQUANT_OUTLIERS) {
      let ofKeys = 0;
      for (const cache of CALIBRATION) {
        const { report: { streams } } = await codec.compress(cache, { recipe: "kvquant", bits, outliers });
        assertEquals([streams.KCOD, streams.VCOD], [rows * 2 * 64 * bits / 8, rows * 2 * 32 * bits / 8]);
        assertEquals([streams.KTOK ?? 0, streams.VTOK], [outliers > 0 ? 2 * rows : 0, 4 * rows]);
        assertEquals(streams.VOUT ?? 0, rows * 2 * outliersASide(64, outliers) * 4);
        ofKeys += streams.KOUT ?? 0;
      }
      // On the tokens of calibration, 798 of each channel, quantiles leave as many beyond them as they say.
      assertEquals(ofKeys, 2 * 2 * 64 * 2 * outliersASide(798, outliers) * 4, `${outliers} %`);
    }
  }
});

const FLAT: ModelSpec = { ...BLOCK_MODEL, layers: 1, rope: null };

/** A cache of one layer, drawn: `shape` of a Gaussian number and a uniform one. */
function drawnCache(tokens: number, seed: number, shape: (gaussian: number, uniform: number, i: number) => number) {
  const numbers = new Float64Array(2 * 2 * tokens * 64);
  fillGaussian(numbers, seed);
  const next = random(seed);
  return cacheOf(
    FLAT,
    tokens,
    "f32",
    (kind, _l, head, t, i) => shape(numbers[(((kind === "key" ? 0 : 2) + head) * tokens + t) * 64 + i], next(), i),
  );
}

/** One in 200 is twenty times as large. */
const tailed = (x: number, u: number) => x * (u < 0.005 ? 20 : 1);

function errorOf(a: KvCache, b: KvCache, kind: Kind): number {
  return relativeError(a, b, kind, 0, a.tokens);
}

// The defining steps, each against the recipe without it.
Deno.test("kvquant: with 1 % outliers apart, heavy tails cost less than half of the error", async () => {
  const profile = await calibrateKvquant([drawnCache(1000, 1, tailed)], { sinks: 0 });
  await using codec = await openCodec(profile, { threads: 1 });
  const cache = drawnCache(300, 2, tailed);
  const restored = async (outliers: number) =>
    (await roundTrip(codec, cache, { recipe: "kvquant", bits: 3, outliers, sinks: 0 })).cache;
  const [dense, sparse] = [await restored(0), await restored(1)];
  for (const kind of KINDS) {
    assertLess(2 * errorOf(cache, sparse, kind), errorOf(cache, dense, kind), kind);
  }
});

Deno.test("kvquant: fitted entries lose less than as many at equal distances", async () => {
  const skewed = (x: number) => x * x;
  const profile = await calibrateKvquant([drawnCache(1000, 1, skewed)], { sinks: 0 });
  const cache = drawnCache(300, 2, skewed);
  for (const bits of KVQUANT_BITS) {
    const uniform = structuredClone(profile);
    for (const kind of KINDS) {
      const { entries } = codebookAt(FLAT, SET, kind, 0, bits);
      for (let i = 0; i < 1 << bits; i++) uniform.codebooks[entries + i] = (2 * i + 1) / (1 << bits) - 1;
    }
    const [a, b] = await Promise.all([profile, uniform].map(async (profile) => {
      await using codec = await openCodec(profile, { threads: 1 });
      return (await roundTrip(codec, cache, { recipe: "kvquant", bits, qnorm: "off", sinks: 0 })).cache;
    }));
    for (const kind of KINDS) assertLess(errorOf(cache, a, kind), 0.9 * errorOf(cache, b, kind), `${kind}, ${bits}`);
  }
});

Deno.test("kvquant: keys lose less before RoPE than after it, and by channel than by token", async () => {
  // Channels with means far from zero, which RoPE turns to and fro.
  const numbers = new Float64Array(64 * 1500 * 4);
  fillGaussian(numbers, 3);
  const before = (seed: number, tokens: number, rope: ModelSpec["rope"]) => {
    const model = { ...BLOCK_MODEL, layers: 1, valueDim: 64, rope };
    const raw = cacheOf(
      { ...model, rope: null },
      tokens,
      "f32",
      (_k, _l, head, t, i) => numbers[((seed * 2 + head) * 1500 + t) * 64 + i] + (i % 8 === 1 ? 20 : 0),
    );
    return { model, raw };
  };
  const rope = BLOCK_MODEL.rope!;
  const { rotateRows, rotationTable } = await import("../../src/cache/rope.ts");
  const turned = (seed: number, tokens: number, told: ModelSpec["rope"]) => {
    const { model, raw } = before(seed, tokens, told);
    const keys = toFloat32(raw.read("key", 0, tokens), "f32");
    rotateRows(keys, 64, 64, rotationTable(rope, raw.positions, "redo"));
    const layers = [{ key: fromFloat32(keys, "f32"), value: raw.read("value", 0, tokens) }];
    return new KvCache({ model, dtype: "f32", positions: raw.positions, layers });
  };
  const errors = [];
  for (const told of [rope, null]) {
    const profile = await calibrateKvquant([turned(0, 1500, told)]);
    await using codec = await openCodec(profile, { threads: 1 });
    const cache = turned(1, 300, told);
    const { cache: back, report } = await roundTrip(codec, cache, { recipe: "kvquant", bits: 3 });
    // Not because keys are far from the thresholds, and kept beside the codes.
    assertLess(report.streams.KOUT / 4, 0.02 * 299 * 2 * 64);
    errors.push({ key: errorOf(cache, back, "key"), value: errorOf(cache, back, "value") });
  }
  const [pre, post] = errors;
  assertLess(2 * pre.key, post.key);
  // Values are the same numbers before any turn, by token.
  assertLess(2 * pre.key, pre.value);
});

Deno.test("kvquant: the first token is kept as it is, unless none shall be", async () => {
  await using codec = await openCodec(PROFILE, { threads: 1 });
  const cache = syntheticCache(50, { model: BLOCK_MODEL, seed: 8 });
  const first = async (options: object) =>
    (await roundTrip(codec, cache, { recipe: "kvquant", ...options })).cache.slice(0, 1);
  assert((await first({})).equals(cache.slice(0, 1)));
  assert(!(await first({ sinks: 0 })).equals(cache.slice(0, 1)));
  const { cache: back } = await roundTrip(codec, cache, { recipe: "kvquant", window: 5 });
  assert(back.slice(45, 50).equals(cache.slice(45, 50)));
});

Deno.test("kvquant: Q-Norm gives 2 bits the spread that they lost, and is on there alone by default", async () => {
  const plain = (x: number) => x;
  const profile = await calibrateKvquant([drawnCache(1000, 1, plain)], { sinks: 0 });
  await using codec = await openCodec(profile, { threads: 1 });
  const cache = drawnCache(300, 2, plain);
  const restored = async (options: object) =>
    (await roundTrip(codec, cache, { recipe: "kvquant", outliers: 0, sinks: 0, ...options })).cache;
  const spread = (of: KvCache, kind: Kind) => {
    const x = toFloat32(of.read(kind, 0, 300), "f32");
    return Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);
  };
  const [on, off] = [await restored({ bits: 2 }), await restored({ bits: 2, qnorm: "off" })];
  for (const kind of KINDS) {
    assertLess(spread(off, kind), 0.97 * spread(cache, kind), kind);
    assertAlmostEquals(spread(on, kind) / spread(cache, kind), 1, 0.01, kind);
  }
  assert(on.equals(await restored({ bits: 2, qnorm: "on" })));
  assert((await restored({ bits: 3 })).equals(await restored({ bits: 3, qnorm: "off" })));
  assert(!(await restored({ bits: 3 })).equals(await restored({ bits: 3, qnorm: "on" })));
});

Deno.test("kvquant: channels that the loss depends on are coded more finely when the profile was weighted", async () => {
  // Even channels are mostly at the lower end of their range, the others at the upper one of theirs.
  const cache = drawnCache(1000, 4, (_, u, i) => (i % 2 === 0 ? 1 : -1) * u * u * u);
  const unit = (dim: number, of: (i: number) => number) =>
    Float64Array.from({ length: 2 * dim * dim }, (_, at) => at % (dim * dim) % (dim + 1) === 0 ? of(at % dim) : 0);
  const errorOfEven = async (weight: (i: number) => number) => {
    const sensitivity = { source: "fisher", key: unit(64, weight), value: unit(32, () => 1) } as const;
    await using codec = await openCodec(await calibrateKvquant([cache], { sensitivity, sinks: 0 }), { threads: 1 });
    const { cache: back } = await roundTrip(codec, cache, { recipe: "kvquant", bits: 3, sinks: 0 });
    const [a, b] = [cache, back].map((c) => toFloat32(c.read("key", 0, 1000), "f32").filter((_, i) => i % 2 === 0));
    return a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0);
  };
  const [even, weighted] = [await errorOfEven(() => 1), await errorOfEven((i) => i % 2 === 0 ? 100 : 1)];
  assertLess(weighted, 0.9 * even);
  assertGreater(weighted, 0);
});

Deno.test("kvquant: refuses what it cannot take", async () => {
  const cache = syntheticCache(20, { model: BLOCK_MODEL });
  await using none = await openCodec(null, { threads: 1 });
  await assertRejects(() => none.compress(cache, { recipe: "kvquant" }), KvzMismatchError, "it needs a profile");
  await using kvtc = await openCodec(syntheticProfile(), { threads: 1 });
  await assertRejects(
    () => kvtc.compress(syntheticCache(9), { recipe: "kvquant" }),
    KvzMismatchError,
    "expected one for recipe kvquant",
  );
  await using codec = await openCodec(PROFILE, { threads: 1 });
  await assertRejects(() => codec.compress(cache, { bits: 5 }), RangeError, "expected 2, 3, 4");
  await assertRejects(() => codec.compress(cache, { outliers: 2 }), RangeError, "expected 0, 0.1, 0.5, 1");
  await assertRejects(() => codec.compress(cache, { qnorm: "auto" } as object), RangeError, "expected on, off");
  await assertRejects(() => codec.compress(syntheticCache(20)), KvzMismatchError, "different models");
  for (const kind of KINDS) {
    const large = cacheOf(BLOCK_MODEL, 4, "f32", (k, _l, _h, t) => k === kind && t === 2 ? 1e9 : 1);
    await assertRejects(
      () => codec.compress(large),
      KvzUnsupportedError,
      `${kind} of layer 0, head 0, token 2 or near it`,
    );
  }
});
