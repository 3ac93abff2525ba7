import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "deno-std/assert";
import { toFloat32 } from "../../../src/cache/elements.ts";
import { rotateRows, rotationTable } from "../../../src/cache/rope.ts";
import { memorySource } from "../../../src/container/bytes.ts";
import { KvzFormatError, KvzMismatchError, KvzUnsupportedError } from "../../../src/errors.ts";
import { calibrateKvquant } from "../../../src/profile/kvquant/calibrate.ts";
import { requireKvquantNumbers } from "../../../src/profile/kvquant/format.ts";
import { KVQUANT_OUTLIERS, kvquantLengths, thresholdsAt } from "../../../src/profile/kvquant/types.ts";
import { parseProfile, serializeProfile } from "../../../src/profile/profile_format.ts";
import { overlaps, shingleHashes } from "../../../src/profile/shingles.ts";
import { cacheOf } from "../../recipes/recipe_checks.ts";
import { plainQuantile } from "../../recipes/plain_kvquant.ts";
import { SMALL_MODEL, syntheticCache } from "../../synthetic.ts";
import { sensitivityFile } from "../kvz/sensitivity_file.ts";

const caches = () => [1, 2].map((seed) => syntheticCache(300, { seed, firstPosition: 7 * seed }));

Deno.test("calibration for kvquant: thresholds are quantiles of keys before RoPE over all tokens but the sinks", async () => {
  const profile = await calibrateKvquant(caches());
  assertEquals(profile.calibration, { tokens: 598, sinks: 1, sequences: 2, seed: 0 });
  assertEquals(profile.sensitivity, "none");
  const { layers, kvHeads, keyDim, rope } = SMALL_MODEL;
  for (const layer of [0, layers - 1]) {
    for (const channel of [0, kvHeads * keyDim - 1]) {
      const [head, i] = [Math.floor(channel / keyDim), channel % keyDim];
      const numbers = caches().flatMap((cache) => {
        const x = toFloat32(cache.read("key", 1, 300), "f16");
        rotateRows(x, keyDim, rope!.dim, rotationTable(rope!, cache.positions.slice(1), "undo"));
        return Array.from({ length: 299 }, (_, t) => x[((layer * kvHeads + head) * 299 + t) * keyDim + i]);
      });
      KVQUANT_OUTLIERS.forEach((percent, set) => {
        const at = thresholdsAt(SMALL_MODEL, set, layer) + 2 * channel;
        assertAlmostEquals(profile.thresholds[at], plainQuantile(numbers, percent / 200), 1e-5);
        assertAlmostEquals(profile.thresholds[at + 1], plainQuantile(numbers, 1 - percent / 200), 1e-5);
      });
    }
  }
});

Deno.test("calibration for kvquant: the same twice; seeds, samples and weights change it; all tokens bound what is dense", async () => {
  const profile = await calibrateKvquant(caches());
  assertEquals(await calibrateKvquant(caches()), profile);
  const sampled = await calibrateKvquant(caches(), { sampleRows: 50 });
  assertNotEquals(sampled.fingerprint, profile.fingerprint);
  assertNotEquals((await calibrateKvquant(caches(), { sampleRows: 50, seed: 1 })).fingerprint, sampled.fingerprint);
  const { thresholds } = kvquantLengths(SMALL_MODEL);
  const dense = (of: typeof profile) => of.thresholds.subarray(0, thresholds / KVQUANT_OUTLIERS.length);
  assertEquals(dense(sampled), dense(profile));
  const sensitivity = memorySource(sensitivityFile({ entry: 3 }));
  const weighted = await calibrateKvquant(caches(), { sensitivity });
  assertEquals(weighted.sensitivity, "fisher");
  // Equal weights are no weights.
  weighted.codebooks.forEach((entry, i) => assertAlmostEquals(entry, profile.codebooks[i], 1e-6));
  assert(overlaps(caches()[0].inputIds!, profile.shingles) >= 0);
});

Deno.test("calibration for kvquant: channels and tokens that do not vary, weights of nothing", async () => {
  const { layers, kvHeads, keyDim, valueDim } = SMALL_MODEL;
  const flat = cacheOf(
    { ...SMALL_MODEL, rope: null },
    40,
    "f16",
    (kind, layer, _h, t, i) => layer === 0 ? 2 : kind === "key" && i === 0 ? -1 : Math.sin(t * (i + 1)),
  );
  const zeros = (dim: number) => new Float64Array(layers * kvHeads * dim * dim);
  const sensitivity = { source: "forward", key: zeros(keyDim), value: zeros(valueDim) } as const;
  const profile = await calibrateKvquant([flat], { sensitivity });
  assertEquals(profile.sensitivity, "forward");
  requireKvquantNumbers(profile.model, profile);
  assertEquals(await parseProfile(await serializeProfile(profile)), profile);
  const equal = await calibrateKvquant([flat]);
  assertEquals(profile.codebooks, equal.codebooks);
});

Deno.test("calibration for kvquant refuses what it cannot use", async () => {
  const cache = syntheticCache(100);
  await assertRejects(() => calibrateKvquant([]), RangeError, "0 tokens are left");
  await assertRejects(() => calibrateKvquant([syntheticCache(2)]), RangeError, "1 tokens are left");
  await assertRejects(() => calibrateKvquant([cache], { seed: -1 }), RangeError, "seed is -1");
  await assertRejects(() => calibrateKvquant([cache], { sampleRows: 1 }), RangeError, "sampleRows is 1");
  await assertRejects(() => calibrateKvquant([cache, cache]), KvzMismatchError, "same sequence");
  const heldOut = shingleHashes(cache.inputIds!);
  await assertRejects(() => calibrateKvquant([cache], { heldOut }), KvzMismatchError, "held-out");
  const sensitivity = memorySource(sensitivityFile({ keyDim: 8 }));
  await assertRejects(() => calibrateKvquant([cache], { sensitivity }), KvzMismatchError, "shape");
  const bad = cacheOf(
    SMALL_MODEL,
    9,
    "f16",
    (kind, l, h, t) => kind === "key" && l === 1 && h === 1 && t === 5 ? NaN : t,
  );
  await assertRejects(() => calibrateKvquant([bad]), KvzUnsupportedError, "key of layer 1, head 1, token 5");
});

Deno.test("profiles of kvquant: written and read, damage refused with its place", async () => {
  const profile = await calibrateKvquant(caches());
  const bytes = await serializeProfile(profile);
  assertEquals(await parseProfile(bytes), profile);
  for (let length = 0; length < bytes.length; length += Math.ceil(bytes.length / 60)) {
    await assertRejects(() => parseProfile(bytes.subarray(0, length)), KvzFormatError);
  }
  const changed = (name: "thresholds" | "codebooks" | "norms", at: number, value: number) => {
    const copy = structuredClone(profile);
    copy[name][at] = value;
    return copy;
  };
  for (
    const [wrong, words] of [
      [changed("thresholds", 2 * 23, 1e9), "layer 1, key channel 3 are 1000000000"],
      [changed("thresholds", 1, NaN), "layer 0, key channel 0"],
      [changed("thresholds", 0, -Infinity), "layer 0, key channel 0"],
      [changed("codebooks", 28 + 5, -9), "entry 5 of the codebooks of layer 1 is -9"],
      [changed("codebooks", 4, Infinity), "entry 4 of the codebooks of layer 0 is Infinity"],
      [changed("norms", 3, NaN), "number 3 of Q-Norm"],
    ] as const
  ) {
    assertThrows(() => requireKvquantNumbers(SMALL_MODEL, wrong), KvzFormatError, words);
    await assertRejects(async () => parseProfile(await serializeProfile(wrong)), KvzFormatError, words);
  }
  // A codebook may begin anywhere, below the end of the one before it.
  assert(profile.codebooks[4] < profile.codebooks[3]);
});
