import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertRejects } from "deno-std/assert";
import { f16ToNumber } from "../../src/cache/elements.ts";
import { KvCache } from "../../src/cache/kv_cache.ts";
import type { CacheSource, Kind } from "../../src/cache/types.ts";
import { KvzMismatchError, KvzUnsupportedError } from "../../src/errors.ts";
import {
  calibrate,
  type CalibrateOptions,
  calibratePartial,
  type CalibrationProgress,
  mergeCalibration,
} from "../../src/profile/calibrate.ts";
import { shingleHashes } from "../../src/profile/shingles.ts";
import { KINDS } from "../../src/cache/types.ts";
import { mergePartials } from "../../src/profile/statistics.ts";
import type { KvtcProfile } from "../../src/profile/types.ts";
import { FEATURES, MODEL, rowsOf, syntheticCache } from "./synthetic.ts";

const INLINE: CalibrateOptions = { threads: 1, rank: 16 };

/** Feature rows of caches made with `syntheticCache(tokens, seed)`, the first four of each left out. */
function pooledRows(kind: Kind, caches: [number, number][], sinks = 4): Float64Array[] {
  const p = FEATURES[kind];
  return caches.flatMap(([tokens, seed]) => {
    const rows = rowsOf(kind, tokens, seed);
    return Array.from(
      { length: Math.max(0, tokens - sinks) },
      (_, t) => rows.slice((t + sinks) * p, (t + sinks + 1) * p),
    );
  });
}

/** Largest share of the centred rows' energy that the profile's basis leaves out, against the best possible. */
function lostEnergy(profile: KvtcProfile, kind: Kind, rows: Float64Array[]): number {
  const { features, components, mean, basis } = profile.kinds[kind];
  let lost = 0;
  let total = 0;
  for (const row of rows) {
    const x = row.map((value, f) => value - mean[f]);
    total += x.reduce((sum, value) => sum + value * value, 0);
    const rest = x.slice();
    for (let c = 0; c < components; c++) {
      let along = 0;
      for (let f = 0; f < features; f++) along += x[f] * f16ToNumber(basis[c * features + f]);
      for (let f = 0; f < features; f++) rest[f] -= along * f16ToNumber(basis[c * features + f]);
    }
    lost += rest.reduce((sum, value) => sum + value * value, 0);
  }
  return lost / total;
}

Deno.test("calibrate finds mean and factors of keys before RoPE and of values, without the sinks", async () => {
  const caches: [number, number][] = [[300, 1], [200, 2], [3, 3]];
  const inputs = caches.map(([tokens, seed]) => syntheticCache(tokens, seed, { firstPosition: 17 * seed }));
  const profile = await calibrate(inputs, INLINE);
  assertEquals(profile.model, MODEL);
  assertEquals(profile.calibration, {
    tokens: 492,
    sinks: 4,
    sequences: 3,
    svd: "randomized",
    seed: 0,
    ratios: [],
  });
  for (const kind of KINDS) {
    const rows = pooledRows(kind, caches);
    const { features, components, mean, variance, totalVariance, table } = profile.kinds[kind];
    assertEquals([features, components, table.rank, table.rows], [FEATURES[kind], 16, 16, 492]);
    for (let f = 0; f < features; f++) {
      assertAlmostEquals(mean[f], rows.reduce((sum, row) => sum + row[f], 0) / rows.length, 1e-4);
    }
    // Ten factors and noise of variance 0.0025: ten components catch all but the noise.
    assert(lostEnergy(profile, kind, rows) < 1e-3);
    const total = rows.reduce((sum, row) => sum + row.reduce((s, x, f) => s + (x - mean[f]) ** 2, 0), 0) / rows.length;
    assertAlmostEquals(totalVariance / total, 1, 1e-4);
    for (let c = 0; c < 10; c++) assertAlmostEquals(table.energy[c] / table.rows / variance[c], 1, 2e-3);
    assert(variance[9] > 5 * variance[10]);
    assert(variance[11] > 0.0015 && variance[11] < 0.006);
  }
});

Deno.test("workers give the same profile as the calling thread", async () => {
  const inputs = [syntheticCache(700, 1), syntheticCache(90, 2)];
  const inline = await calibrate(inputs, INLINE);
  const workers = await calibrate(inputs, { ...INLINE, threads: 2 });
  assertEquals(workers, inline);
});

Deno.test("randomized and exact decompositions agree", async () => {
  const inputs = [syntheticCache(400, 5)];
  const [randomized, exact] = [await calibrate(inputs, INLINE), await calibrate(inputs, { ...INLINE, svd: "exact" })];
  assertEquals(exact.calibration.svd, "exact");
  for (const kind of KINDS) {
    const [a, b] = [randomized.kinds[kind], exact.kinds[kind]];
    for (let c = 0; c < 10; c++) assertAlmostEquals(a.variance[c] / b.variance[c], 1, 1e-5);
  }
});

Deno.test("partial statistics merge to the same sample and nearly the same fit as all caches at once", async () => {
  const inputs = [syntheticCache(150, 1), syntheticCache(220, 2), syntheticCache(40, 3)];
  const options = { threads: 1, seed: 9, sinks: 2, sampleRows: 100 };
  const whole = await calibratePartial(inputs, options);
  const parts = await Promise.all(inputs.map((input) => calibratePartial([input], options)));
  for (const order of [[0, 1, 2], [2, 0, 1]]) {
    const merged = mergePartials(order.map((i) => parts[i]));
    assertEquals(merged.priorities, whole.priorities);
    assertEquals(merged.sequences, whole.sequences);
    assertEquals(merged.shingles, whole.shingles);
    for (const kind of KINDS) {
      assertEquals(merged.kinds[kind].sample, whole.kinds[kind].sample);
      assertEquals(merged.kinds[kind].moments.count, 404);
      const [a, b] = [merged.kinds[kind].moments.comoment, whole.kinds[kind].moments.comoment];
      const scale = Math.max(...a);
      for (let i = 0; i < a.length; i++) assertAlmostEquals(a[i], b[i], 1e-5 * scale);
    }
    const fitOptions = { rank: 16, threads: 1 };
    const fromParts = await mergeCalibration(order.map((i) => parts[i]), fitOptions);
    const fromMerged = await mergeCalibration([merged], fitOptions);
    const direct = await calibrate(inputs, { ...options, ...fitOptions });
    assertEquals(fromParts.calibration, direct.calibration);
    for (const other of [fromParts, fromMerged]) {
      for (const kind of KINDS) {
        const [a, b] = [other.kinds[kind], direct.kinds[kind]];
        assertAlmostEquals(a.totalVariance / b.totalVariance, 1, 1e-5);
        for (let c = 0; c < 10; c++) assertAlmostEquals(a.variance[c] / b.variance[c], 1, 1e-3);
      }
    }
  }
});

Deno.test("the sample does not depend on the order of the caches and changes with the seed", async () => {
  const [a, b] = [syntheticCache(150, 1), syntheticCache(220, 2)];
  const options = { threads: 1, sampleRows: 50 };
  const [one, two] = [await calibratePartial([a, b], options), await calibratePartial([b, a], options)];
  assertEquals(one.priorities, two.priorities);
  assertEquals(one.kinds.key.sample, two.kinds.key.sample);
  assertEquals(one.kinds.key.sample.length, 50 * FEATURES.key);
  const other = await calibratePartial([a, b], { ...options, seed: 1 });
  assertNotEquals(one.kinds.key.sample, other.kinds.key.sample);
});

Deno.test("fewer tokens than the rank give a lower rank", async () => {
  const profile = await calibrate([syntheticCache(12, 1)], { ...INLINE, rank: 2048 });
  for (const kind of KINDS) {
    assert(profile.kinds[kind].components <= 7);
    assert(lostEnergy(profile, kind, pooledRows(kind, [[12, 1]])) < 1e-4);
  }
});

Deno.test("f16 and bf16 caches, streams of caches and trimmed results", async () => {
  async function* stream(): AsyncGenerator<CacheSource> {
    yield syntheticCache(120, 1, { dtype: "f16" });
    yield await Promise.resolve(syntheticCache(80, 2, { dtype: "bf16" }));
  }
  const profile = await calibrate(stream(), { ...INLINE, rank: 24, ratios: [16, 8] });
  assertEquals(profile.calibration.ratios, [8, 16]);
  for (const kind of KINDS) assert(profile.kinds[kind].components < profile.kinds[kind].table.rank);
});

Deno.test("progress rises to the end of each phase", async () => {
  const heard: CalibrationProgress[] = [];
  await calibrate([syntheticCache(600, 1), syntheticCache(50, 2)], { ...INLINE, onProgress: (p) => heard.push(p) });
  for (const phase of ["read", "fit"] as const) {
    const fractions = heard.filter((p) => p.phase === phase).map((p) => p.fraction!);
    assert(fractions.length > 2);
    assertEquals(fractions.toSorted((a, b) => a - b), fractions);
    assertEquals(fractions.at(-1), 1);
  }
  assertEquals(heard.at(-1)!.tokens, 642);
});

Deno.test("an aborted calibration rejects with the signal's reason", async () => {
  const reason = new Error("enough");
  const inputs = [syntheticCache(600, 1), syntheticCache(50, 2)];
  await assertRejects(() => calibrate(inputs, { ...INLINE, signal: AbortSignal.abort(reason) }), Error, "enough");
  for (const threads of [1, 2]) {
    for (const phase of ["read", "fit"]) {
      const controller = new AbortController();
      const onProgress = (p: CalibrationProgress) => p.phase === phase && controller.abort(reason);
      const rejected = await assertRejects(() =>
        calibrate(inputs, { rank: 16, threads, onProgress, signal: controller.signal })
      );
      assertEquals(rejected, reason);
    }
  }
});

Deno.test("calibrate refuses NaN and infinity by name, layer, head and token", async () => {
  for (const [kind, value] of [["key", NaN], ["value", Infinity]] as const) {
    const cache = syntheticCache(40, 1);
    const source: CacheSource = {
      model: cache.model,
      dtype: cache.dtype,
      tokens: cache.tokens,
      positions: cache.positions,
      ragged: false,
      inputIds: cache.inputIds,
      read(which, begin, end) {
        const bytes = cache.read(which, begin, end);
        const dim = which === "key" ? 8 : 4;
        // Layer 2, head 1, token 25, of [layers][heads][tokens][dim].
        if (which === kind && begin <= 25 && end > 25 && begin > 0) {
          const at = ((2 * 2 + 1) * (end - begin) + 25 - begin) * dim + 1;
          new DataView(bytes.buffer, bytes.byteOffset).setFloat32(4 * at, value, true);
        }
        return bytes;
      },
    };
    for (const threads of [1, 2]) {
      await assertRejects(
        () => calibrate([{ name: "a.safetensors", cache: source }], { rank: 4, threads }),
        KvzUnsupportedError,
        `a.safetensors: ${kind} of layer 2, head 1, token 25 holds NaN or infinity`,
      );
    }
  }
});

Deno.test("calibrate refuses ragged caches, other models, repeated sequences and caches without enough tokens", async () => {
  const cache = syntheticCache(30, 1);
  const ragged = { ...sourceOf(cache), ragged: true };
  await assertRejects(
    () => calibrate([ragged], INLINE),
    KvzUnsupportedError,
    "cache 1: its heads hold different tokens",
  );
  const other = syntheticCache(30, 2, { model: { ...MODEL, id: "another" } });
  await assertRejects(
    () => calibrate([{ name: "A", cache }, { name: "B", cache: other }], INLINE),
    KvzMismatchError,
    'id is "synthetic" in A, "another" in B',
  );
  await assertRejects(
    () => calibrate([{ name: "A", cache }, { name: "B", cache: syntheticCache(30, 1) }], INLINE),
    KvzMismatchError,
    "Cannot calibrate on B: it is the same sequence as A",
  );
  const noIds = (seed: number) => syntheticCache(30, seed, { ids: false });
  await assertRejects(() => calibrate([noIds(1), noIds(1)], INLINE), KvzMismatchError, "the same sequence");
  assertEquals((await calibrate([noIds(1), noIds(2)], INLINE)).calibration.sequences, 2);
  await assertRejects(() => calibrate([syntheticCache(5, 1)], INLINE), RangeError, "1 tokens are left after 4 sinks");
  await assertRejects(() => calibrate([], INLINE), RangeError, "0 tokens are left");
  await assertRejects(() => calibratePartial([], INLINE), TypeError, "there are no caches");
  await assertRejects(() => mergeCalibration([]), TypeError, "there are none");
});

Deno.test("calibrate keeps held-out texts out", async () => {
  const [cache, evaluation] = [syntheticCache(200, 1), syntheticCache(100, 2)];
  const ids = evaluation.inputIds!;
  const mixed = cache.inputIds!.slice();
  mixed.set(ids.subarray(20, 90), 57);
  const leaking = new KvCache({ ...denseParts(cache), inputIds: mixed });
  const heldOut = shingleHashes(ids);
  await assertRejects(
    () => calibrate([cache, { name: "leak", cache: leaking }], { ...INLINE, heldOut }),
    KvzMismatchError,
    "Cannot calibrate on leak: from token 69 on it overlaps with a held-out text",
  );
  await assertRejects(
    () => calibrate([syntheticCache(50, 3, { ids: false })], { ...INLINE, heldOut }),
    KvzMismatchError,
    "has no token ids",
  );
  const profile = await calibrate([cache], { ...INLINE, heldOut });
  assertEquals(profile.shingles, shingleHashes(cache.inputIds!).sort());
});

Deno.test("mergePartials refuses what does not belong together", async () => {
  const a = await calibratePartial([syntheticCache(30, 1)], { threads: 1 });
  const refuse = async (options: CalibrateOptions, message: string, seed = 2) => {
    const b = await calibratePartial([syntheticCache(30, seed)], { threads: 1, ...options });
    await assertRejects(() => mergeCalibration([a, b]), KvzMismatchError, message);
    await assertRejects(() => Promise.try(() => mergePartials([a, b], ["A", "B"])), KvzMismatchError, message);
  };
  await refuse({ sinks: 0 }, "sinks is 0, expected 4");
  await refuse({ seed: 5 }, "seed is 5, expected 0");
  await refuse({ sampleRows: 8 }, "sampleCapacity is 8, expected 4096");
  await refuse({}, "is in both", 1);
  await assertRejects(() => Promise.try(() => mergePartials([])), TypeError, "there are none");
});

Deno.test("calibrate checks its options", async () => {
  const bad: [CalibrateOptions, string][] = [
    [{ rank: 0 }, "rank is 0"],
    [{ rank: 1.5 }, "rank is 1.5"],
    [{ threads: 0 }, "threads is 0"],
    [{ seed: -1 }, "seed is -1"],
    [{ sinks: NaN }, "sinks is NaN"],
    [{ sampleRows: 0 }, "sampleRows is 0"],
    [{ ratios: [8, 0] }, "ratio is 0"],
  ];
  for (const [options, message] of bad) {
    await assertRejects(() => calibrate([syntheticCache(30, 1)], options), RangeError, message);
  }
  await assertRejects(() => calibrate([], { svd: "fast" as "exact" }), TypeError, '"fast"');
});

function sourceOf(cache: KvCache): CacheSource {
  const { model, dtype, tokens, positions, ragged, inputIds } = cache;
  return { model, dtype, tokens, positions, ragged, inputIds, read: (...range) => cache.read(...range) };
}

/** What a dense cache was made of. */
function denseParts(cache: KvCache): ConstructorParameters<typeof KvCache>[0] {
  const { model, dtype, positions, tokens } = cache;
  const [key, value] = [cache.read("key", 0, tokens), cache.read("value", 0, tokens)];
  const part = (bytes: Uint8Array, layer: number) => {
    const size = bytes.length / model.layers;
    return bytes.subarray(layer * size, (layer + 1) * size);
  };
  const layers = Array.from(
    { length: model.layers },
    (_, layer) => ({ key: part(key, layer), value: part(value, layer) }),
  );
  return { model, dtype, positions, layers };
}
