import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertRejects } from "deno-std/assert";
import { createWasmBackend } from "../../../src/backend/wasm/create.ts";
import { f16ToNumber, toFloat32 } from "../../../src/cache/elements.ts";
import type { Kind } from "../../../src/cache/types.ts";
import { openCodec } from "../../../src/codec/open.ts";
import { memorySource } from "../../../src/container/bytes.ts";
import { KvzMismatchError } from "../../../src/errors.ts";
import { calibrateKvz } from "../../../src/profile/kvz/calibrate.ts";
import { forwardMatrix } from "../../../src/profile/kvz/forward.ts";
import type { SensitivityBlocks } from "../../../src/profile/kvz/sensitivity.ts";
import type { KvzProfile } from "../../../src/profile/kvz/types.ts";
import { serializeProfile } from "../../../src/profile/profile.ts";
import { shingleHashes } from "../../../src/profile/shingles.ts";
import { smallKvzProfile } from "../../codec/kvz_profile.ts";
import { SMALL_MODEL, syntheticCache } from "../../synthetic.ts";
import { sensitivityFile } from "./sensitivity_file.ts";

Deno.test("calibrating twice gives the same bytes; what matters changes the fingerprint", async () => {
  const profile = await smallKvzProfile();
  const again = await smallKvzProfile();
  assertEquals(again, profile);
  assertEquals(await serializeProfile(again), await serializeProfile(profile));
  const caches = () => [1, 2, 3].map((seed) => syntheticCache(700, { seed }));
  const options = { rank: 64, svd: "exact" } as const;
  const sensitivity = memorySource(sensitivityFile());
  const weighted = await calibrateKvz(caches(), { ...options, sensitivity });
  assertEquals(weighted.sensitivity, "fisher");
  assertNotEquals(weighted.fingerprint, profile.fingerprint);
  assertEquals(profile.calibration, { tokens: 2088, sinks: 4, sequences: 3, svd: "exact", seed: 0 });
});

/** Unit blocks; in those of keys one direction weighs `heavy` times as much. */
function unevenBlocks(heavy: number): SensitivityBlocks {
  const { layers, kvHeads, keyDim, valueDim } = SMALL_MODEL;
  const blocks = (dim: number, more: number) =>
    Float64Array.from({ length: layers * kvHeads * dim * dim }, (_, at) => {
      const [i, j] = [Math.floor(at / dim) % dim, at % dim];
      return Number(i === j) + more * Math.cos(i) * Math.cos(j) / dim;
    });
  return { source: "forward", key: blocks(keyDim, heavy), value: blocks(valueDim, 0) };
}

for (
  const [what, sensitivity] of [
    ["", memorySource(sensitivityFile())],
    [", where one direction weighs far more than others", unevenBlocks(1000)],
  ] as const
) {
  Deno.test(`the way there belongs to the way back${what}`, async () => {
    const caches = [1, 2].map((seed) => syntheticCache(300, { seed }));
    const profile = await calibrateKvz(caches, { svd: "exact", sensitivity });
    const { components: C, features: F, basis, scales } = profile;
    const forward = Float32Array.from(await forwardMatrix(profile, await createWasmBackend()), f16ToNumber);
    // Rows of weak components are rounded coarsely, as their variance allows, but none sees anything of another.
    assert(C > 3);
    for (let a = 0; a < C; a++) {
      for (let b = 0; b < C; b++) {
        let dot = 0;
        for (let f = 0; f < F; f++) dot += forward[a * F + f] * scales[f] * basis[b * F + f];
        assertAlmostEquals(dot, Number(a === b), 0.005, `${a} and ${b} of ${C}`);
      }
    }
  });
}

Deno.test("calibration refuses what it cannot use", async () => {
  const cache = syntheticCache(100);
  await assertRejects(() => calibrateKvz([]), RangeError);
  await assertRejects(() => calibrateKvz([syntheticCache(5)]), RangeError, "1 tokens are left");
  await assertRejects(() => calibrateKvz([cache], { rank: 0 }), RangeError, "rank is 0");
  await assertRejects(() => calibrateKvz([cache], { ratio: 0.5 }), RangeError, "ratio is 0.5");
  await assertRejects(() => calibrateKvz([cache], { ratio: NaN }), RangeError, "ratio is NaN");
  await assertRejects(() => calibrateKvz([cache], { keyWeight: 0 }), RangeError, "keyWeight is 0");
  await assertRejects(() => calibrateKvz([cache], { trainingChunks: 1.5 }), RangeError, "trainingChunks is 1.5");
  await assertRejects(() => calibrateKvz([cache, cache]), KvzMismatchError);
  const other = syntheticCache(100, { model: { ...SMALL_MODEL, id: "other" }, seed: 2 });
  await assertRejects(() => calibrateKvz([cache, other]), KvzMismatchError);
  const heldOut = shingleHashes(cache.inputIds!);
  await assertRejects(() => calibrateKvz([cache], { heldOut }), KvzMismatchError, "held-out");
  const sensitivity = memorySource(sensitivityFile({ keyDim: 8 }));
  await assertRejects(() => calibrateKvz([cache], { sensitivity }), KvzMismatchError, "shape");
});

Deno.test("blocks of forward passes weigh as a file does; one short cache is enough to train on", async () => {
  const { layers, kvHeads, keyDim, valueDim } = SMALL_MODEL;
  const unit = (dim: number) =>
    Float64Array.from({ length: layers * kvHeads * dim * dim }, (_, i) => Number(i % (dim * dim) % (dim + 1) === 0));
  const sensitivity = { source: "forward", key: unit(keyDim), value: unit(valueDim) } as const;
  const options = { rank: 64, svd: "exact" } as const;
  const forward = await calibrateKvz([syntheticCache(300)], { ...options, sensitivity });
  assertEquals(forward.sensitivity, "forward");
  assert(forward.stepBits.every((bits) => bits > 0));
  const file = memorySource(sensitivityFile());
  const fisher = await calibrateKvz([syntheticCache(300)], { ...options, sensitivity: file });
  assertEquals(fisher.fingerprint, forward.fingerprint);
  await assertRejects(
    () => calibrateKvz([syntheticCache(300)], { sensitivity: { ...sensitivity, value: unit(keyDim) } }),
    KvzMismatchError,
    "its value blocks have 600 elements, the model wants 216",
  );
});

Deno.test("weights too small or too large for binary16 are scaled: the same fit in other units", async () => {
  const profile = (entry: number) =>
    calibrateKvz([syntheticCache(300)], {
      rank: 64,
      svd: "exact",
      sensitivity: memorySource(sensitivityFile({ entry })),
    });
  const unit = await profile(1);
  for (const entry of [2 ** -40, 2 ** 20]) {
    const other = await profile(entry);
    assertEquals(other.basis, unit.basis);
    assertEquals(other.stepBits, unit.stepBits);
    // 60 in s are a step of half the size, 30 a weight of half.
    assertEquals((other.finestS - unit.finestS) % 60, 0);
    assert(other.sensitivityBlocks.every((bits) => (bits & 0x7c00) !== 0x7c00));
  }
  // Others are stored as they are: 8 less in the exponent.
  const { sensitivityBlocks } = await profile(2 ** -8);
  assertEquals(sensitivityBlocks, unit.sensitivityBlocks.map((bits) => bits === 0 ? 0 : bits - (8 << 10)));
});

Deno.test("a weight of keys is that of their blocks, and restores keys more closely", async () => {
  const options = { rank: 64, svd: "exact", ratio: 20 } as const;
  const sensitivity = unevenBlocks(0);
  const heavier = { ...sensitivity, key: sensitivity.key.map((value) => 16 * value) };
  const caches = () => [1, 2].map((seed) => syntheticCache(300, { seed }));
  const weighted = await calibrateKvz(caches(), { ...options, sensitivity, keyWeight: 16 });
  assertEquals(weighted.fingerprint, (await calibrateKvz(caches(), { ...options, sensitivity: heavier })).fingerprint);
  const plain = await calibrateKvz(caches(), { ...options, sensitivity });
  assertNotEquals(weighted.fingerprint, plain.fingerprint);
  const errors = await Promise.all([plain, weighted].map(errorsAt15));
  assert(errors[1].key < 0.8 * errors[0].key, JSON.stringify(errors));
  assert(errors[1].value > 1.1 * errors[0].value, JSON.stringify(errors));
});

/** Relative squared errors of a held-out cache at a file ratio of about 15. */
async function errorsAt15(profile: KvzProfile): Promise<Record<Kind, number>> {
  const cache = syntheticCache(300, { seed: 9 });
  const codec = await openCodec(profile, { backend: "wasm", threads: 1 });
  try {
    const { bytes } = await codec.compress(cache, { ratio: 15, sinks: 0 });
    const { cache: restored } = await codec.decompress(bytes);
    const of = (kind: Kind) => {
      let [error, square] = [0, 0];
      for (let layer = 0; layer < cache.model.layers; layer++) {
        for (let head = 0; head < cache.model.kvHeads; head++) {
          const [a, b] = [cache, restored].map((one) => toFloat32(one[kind](layer, head), cache.dtype));
          a.forEach((value, i) => (error += (value - b[i]) ** 2, square += value ** 2));
        }
      }
      return error / square;
    };
    return { key: of("key"), value: of("value") };
  } finally {
    await codec.close();
  }
}
