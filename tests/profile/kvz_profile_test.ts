import { assert, assertEquals, assertNotEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { TrellisKernels } from "../../src/backend/wasm/trellis_kernels.ts";
import { memorySource } from "../../src/container/bytes.ts";
import { KvzFormatError, KvzMismatchError } from "../../src/errors.ts";
import { calibrateKvz } from "../../src/profile/kvz/calibrate.ts";
import { readSensitivity } from "../../src/profile/kvz/sensitivity.ts";
import { train } from "../../src/profile/kvz/train.ts";
import { trimKvzProfile } from "../../src/profile/kvz/trim.ts";
import type { KvzProfile } from "../../src/profile/kvz/types.ts";
import { parseProfile, serializeProfile } from "../../src/profile/profile.ts";
import { shingleHashes } from "../../src/profile/shingles.ts";
import { smallKvzProfile } from "../codec/kvz_profile.ts";
import { random, SMALL_MODEL, syntheticCache } from "../synthetic.ts";

const small: Promise<KvzProfile> = smallKvzProfile();

/** A sensitivity file with unit blocks, changed. */
function sensitivityFile({ layers = SMALL_MODEL.layers, keyDim = SMALL_MODEL.keyDim, entry = 1 } = {}): Uint8Array {
  const header: Record<string, unknown> = {};
  const data: number[] = [];
  for (let layer = 0; layer < layers; layer++) {
    for (const [kind, dim] of [["key", keyDim], ["value", SMALL_MODEL.valueDim]] as const) {
      const begin = data.length * 4;
      for (let i = 0; i < SMALL_MODEL.kvHeads * dim * dim; i++) {
        data.push(i % (dim * dim) % (dim + 1) === 0 ? entry : 0);
      }
      const shape = [SMALL_MODEL.kvHeads, dim, dim];
      header[`layers.${layer}.${kind}.fisher`] = { dtype: "F32", shape, data_offsets: [begin, data.length * 4] };
    }
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + data.length * 4);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(new Uint8Array(Float32Array.from(data).buffer), 8 + json.length);
  return bytes;
}

Deno.test("sensitivity: a good file is read, others are refused by name", async () => {
  const read = (bytes: Uint8Array) => readSensitivity(memorySource(bytes), SMALL_MODEL);
  const { source, key, value } = await read(sensitivityFile({ entry: 3 }));
  assertEquals([source, key.length, value.length], ["fisher", 3 * 2 * 100, 3 * 2 * 36]);
  assertEquals([key[0], key[1], key[11], value[7]], [3, 0, 3, 3]);
  const good = sensitivityFile();
  for (const length of [0, 7, 100, good.length - 1]) {
    await assertRejects(() => read(good.subarray(0, length)), KvzFormatError, undefined, `${length} bytes`);
  }
  await assertRejects(() => read(sensitivityFile({ layers: 4 })), KvzMismatchError, "more than the model's 3 layers");
  await assertRejects(() => read(sensitivityFile({ layers: 2 })), KvzFormatError, "layers.2.key.fisher");
  await assertRejects(() => read(sensitivityFile({ keyDim: 8 })), KvzMismatchError, "has the shape [2, 8, 8]");
  await assertRejects(() => read(sensitivityFile({ entry: NaN })), KvzFormatError, "NaN or infinity");
  await assertRejects(() => read(sensitivityFile({ entry: Infinity })), KvzFormatError, "NaN or infinity");
});

Deno.test("calibrating twice gives the same bytes; what matters changes the fingerprint", async () => {
  const profile = await small;
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

Deno.test("calibration refuses what it cannot use", async () => {
  const cache = syntheticCache(100);
  await assertRejects(() => calibrateKvz([]), RangeError);
  await assertRejects(() => calibrateKvz([syntheticCache(5)]), RangeError, "1 tokens are left");
  await assertRejects(() => calibrateKvz([cache], { rank: 0 }), RangeError, "rank is 0");
  await assertRejects(() => calibrateKvz([cache], { ratio: 0.5 }), RangeError, "ratio is 0.5");
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

Deno.test("training lowers the coded bits", async () => {
  const [tokens, components] = [256, 24];
  const next = random(5);
  const variance = Float64Array.from({ length: components }, (_, c) => 16 * 2 ** (-c / 4));
  const coefficients = new Float32Array(tokens * components);
  for (let t = 0; t < tokens; t++) {
    for (let c = 0; c < components; c++) {
      const noise = next() + next() + next() + next() - 2;
      const before = t === 0 ? 0 : coefficients[(t - 1) * components + c];
      coefficients[t * components + c] = 0.8 * before + 0.6 * Math.sqrt(3 * variance[c]) * noise;
    }
  }
  const kernels = await TrellisKernels.open();
  const bits: number[] = [];
  for (const rounds of [1, 2, 4]) {
    const trained = train(kernels, [{ tokens, coefficients }], variance, { steps: [-30, 60], lambda: 0.3, rounds });
    assertEquals(trained.stepSets.map(({ s }) => s), [-30, 60]);
    assert(trained.bits[1] > trained.bits[0]);
    bits.push(trained.bits[1]);
  }
  assert(bits[1] < bits[0] && bits[2] < bits[1], bits.join(" "));
});

Deno.test("a kvz profile comes back from its file as it was, trimmed too", async () => {
  const profile = await small;
  const bytes = await serializeProfile(profile);
  assertEquals(await parseProfile(bytes), profile);
  const trimmed = trimKvzProfile(profile, 120);
  assert(trimmed.components < profile.components);
  assertEquals(await parseProfile(await serializeProfile(trimmed)), trimmed);
});

Deno.test("any parameters come back", async () => {
  const profile = await small;
  const { components, features, stepSets } = profile;
  const int8 = (min: number, max: number, length: number) =>
    fc.int8Array({ min, max, minLength: length, maxLength: length });
  await fc.assert(
    fc.asyncProperty(
      int8(-63, 63, components * features),
      int8(0, 32, 5 * components),
      fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), { minLength: 3, maxLength: 3 }),
      fc.constantFrom("fisher", "forward", "none" as const),
      async (basis, rho32, [s, kl, bits], sensitivity) => {
        const [first, ...others] = stepSets;
        const made = {
          ...profile,
          sensitivity: sensitivity as KvzProfile["sensitivity"],
          basis: new Int8Array(basis),
          stepSets: [{ ...first, rho32: new Int8Array(rho32) }, ...others],
          curve: [{ s, kl, bits }],
        };
        assertEquals(await parseProfile(await serializeProfile(made)), made);
      },
    ),
    { numRuns: 15 },
  );
});

Deno.test("every flipped bit and every truncation of a kvz profile is found", async () => {
  const bytes = await serializeProfile(trimKvzProfile(await small, 120));
  for (let at = 0; at < bytes.length; at += at < 1500 ? 1 : 97) {
    const flipped = bytes.slice();
    flipped[at] ^= 1 << (at % 8);
    await assertRejects(() => parseProfile(flipped), KvzFormatError, undefined, `byte ${at}`);
  }
  for (let length = 0; length < bytes.length; length += 499) {
    await assertRejects(() => parseProfile(bytes.subarray(0, length)), KvzFormatError);
  }
});

Deno.test("numbers that no calibration for kvz yields are refused", async () => {
  const profile = await small;
  const [first, ...others] = profile.stepSets;
  const { tables } = profile;
  const bad: [Partial<KvzProfile>, string][] = [
    [{ mean: profile.mean.with(0, NaN) }, "mean holds"],
    [{ scales: profile.scales.with(3, -1) }, "scales holds"],
    [{ variance: profile.variance.with(1, Infinity) }, "variance holds"],
    [{ sensitivityBlocks: profile.sensitivityBlocks.with(0, 0x7c00) }, "sensitivity holds"],
    [{ stepSets: [{ ...first, rho32: first.rho32.with(0, 33) }, ...others] }, "prediction holds"],
    [{ stepSets: [first, { ...others[0], s: first.s }, ...others.slice(1)] }, "steps"],
    [{ stepBits: profile.stepBits.slice(1) }, "stepBits"],
    [{ curve: [{ s: 0, kl: NaN, bits: 1 }] }, "curve holds"],
    [{ tables: { ...tables, frequencies: tables.frequencies.with(0, 0) } }, "table 0"],
    [{ finestS: 5000 }, "finestS"],
    [{ fingerprint: "x" }, "fingerprint"],
    [{ model: { ...profile.model, layers: 4 } }, "bytes, expected"],
  ];
  for (const [change, message] of bad) {
    const bytes = await serializeProfile({ ...profile, ...change });
    await assertRejects(() => parseProfile(bytes), KvzFormatError, message);
  }
});
