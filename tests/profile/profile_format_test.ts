import { assert, assertEquals, assertRejects, assertThrows } from "deno-std/assert";
import { readSafetensorsHeader } from "../../src/adapters/safetensors_file.ts";
import { memorySource } from "../../src/container/bytes.ts";
import { KvzFormatError, KvzMismatchError } from "../../src/errors.ts";
import { calibrate } from "../../src/profile/calibrate.ts";
import {
  allocationFor,
  exportProfile,
  fitFingerprint,
  parseProfile,
  planFor,
  serializeProfile,
  trimProfile,
} from "../../src/profile/profile.ts";
import { KINDS } from "../../src/cache/types.ts";
import type { KvtcProfile } from "../../src/profile/types.ts";
import { syntheticCache } from "./synthetic.ts";

/** One small fit for all tests, whose order does not matter. */
const fit: Promise<KvtcProfile> = calibrate([syntheticCache(300, 1), syntheticCache(100, 2)], { threads: 1, rank: 24 });

/** Rewrites a value of a profile. */
function changed(
  profile: KvtcProfile,
  kind: "key" | "value",
  change: Partial<KvtcProfile["kinds"]["key"]>,
): KvtcProfile {
  return { ...profile, kinds: { ...profile.kinds, [kind]: { ...profile.kinds[kind], ...change } } };
}

Deno.test("a profile comes back from its file as it was", async () => {
  const profile = await fit;
  const bytes = await serializeProfile(profile);
  assertEquals(await parseProfile(bytes), profile);
  assertEquals(await parseProfile(memorySource(bytes)), profile);
  const trimmed = trimProfile(profile, [32, 8]);
  assertEquals(await parseProfile(await serializeProfile(trimmed)), trimmed);
  assert((await serializeProfile(trimmed)).length < bytes.length);
});

Deno.test("a trimmed profile keeps what its ratios need, its fingerprint and its plans", async () => {
  const profile = await fit;
  const trimmed = trimProfile(profile, [16, 8, 8]);
  assertEquals(trimmed.fingerprint, profile.fingerprint);
  assertEquals(trimmed.calibration.ratios, [8, 16]);
  for (const kind of KINDS) {
    for (const ratio of [8, 16]) {
      assertEquals(allocationFor(trimmed, kind, ratio), allocationFor(profile, kind, ratio));
      assert(allocationFor(profile, kind, ratio).bits <= 16 * profile.kinds[kind].features / ratio);
    }
    const last = planFor(profile, kind, 8).at(-1)!;
    const { components, features, basis } = trimmed.kinds[kind];
    assertEquals(components, last.first + last.size);
    assertEquals(basis, profile.kinds[kind].basis.subarray(0, components * features));
  }
  // Trimming again, further, is the same as trimming once.
  assertEquals(trimProfile(trimmed, [16]), trimProfile(profile, [16]));
  assertThrows(() => planFor(trimmed, "key", 2), KvzMismatchError, "trimmed to 16 for ratios 8, 16");
  assertThrows(() => trimProfile(trimmed, [2]), KvzMismatchError, "it needs");
  assertThrows(() => trimProfile(profile, []), RangeError, "no ratios");
  assertThrows(() => trimProfile(profile, [-1]), RangeError, "ratio is -1");
});

Deno.test("the fingerprint names the fit", async () => {
  const profile = await fit;
  assert(/^[0-9a-f]{64}$/.test(profile.fingerprint));
  assertEquals(await fitFingerprint(profile.model, profile.kinds), profile.fingerprint);
  const { mean, basis, table } = profile.kinds.value;
  const variants = [
    changed(profile, "value", { mean: mean.with(3, 7) }),
    changed(profile, "value", { basis: basis.with(3, 7) }),
    changed(profile, "value", { table: { ...table, energy: table.energy.with(3, 7) } }),
    changed(profile, "value", { table: { ...table, errors: table.errors.with(3, 7) } }),
    { ...profile, kinds: { key: profile.kinds.value, value: profile.kinds.key } },
    { ...profile, model: { ...profile.model, id: "other" } },
  ];
  const prints = await Promise.all(variants.map(({ model, kinds }) => fitFingerprint(model, kinds)));
  assertEquals(new Set([profile.fingerprint, ...prints]).size, variants.length + 1);
});

Deno.test("every flipped bit and every truncation of a profile file is found", async () => {
  const bytes = await serializeProfile(trimProfile(await fit, [16]));
  for (let at = 0; at < bytes.length; at += at < 2000 ? 1 : 37) {
    const flipped = bytes.slice();
    flipped[at] ^= 1 << (at % 8);
    await assertRejects(() => parseProfile(flipped), KvzFormatError, undefined, `byte ${at}`);
  }
  for (let length = 0; length < bytes.length; length += 211) {
    await assertRejects(() => parseProfile(bytes.subarray(0, length)), KvzFormatError);
  }
});

Deno.test("numbers that no calibration yields are refused", async () => {
  const profile = await fit;
  const { table, mean, basis, variance } = profile.kinds.key;
  const bad: [KvtcProfile, string][] = [
    [changed(profile, "key", { mean: mean.with(0, NaN) }), "key mean"],
    [changed(profile, "key", { basis: basis.with(9, 0x7c00) }), "key basis"],
    [changed(profile, "key", { variance: variance.with(1, -1) }), "key variance"],
    [changed(profile, "key", { table: { ...table, energy: table.energy.with(0, Infinity) } }), "key energy"],
    [changed(profile, "key", { table: { ...table, errors: table.errors.with(0, NaN) } }), "key errors"],
    [changed(profile, "value", { components: 25 }), "components is 25"],
    [changed(profile, "value", { components: 3 }), "VBAL has 576 bytes, expected 72"],
    [changed(profile, "key", { features: 40 }), "features is 40, expected an integer from 48 to 48"],
    [{ ...profile, shingles: profile.shingles.slice(1), fingerprint: "x" }, "fingerprint"],
    [{ ...profile, model: { ...profile.model, layers: 4 } }, "expected an integer from 64 to 64"],
  ];
  for (const [broken, message] of bad) {
    const bytes = await serializeProfile(broken);
    await assertRejects(() => parseProfile(bytes), KvzFormatError, message);
  }
});

Deno.test("exportProfile writes tensors for NumPy, with a plan on request", async () => {
  const profile = await fit;
  const bytes = exportProfile(profile, { ratio: 8 });
  const { tensors, metadata } = await readSafetensorsHeader(memorySource(bytes));
  assertEquals(metadata.fingerprint, profile.fingerprint);
  const read = (name: string) => {
    const { begin, end } = tensors.get(name)!;
    return bytes.slice(begin, end).buffer;
  };
  for (const kind of KINDS) {
    const { features, mean, basis, table } = profile.kinds[kind];
    assertEquals(tensors.get(`${kind}.basis`)!.shape, [24, features]);
    assertEquals(tensors.get(`${kind}.basis`)!.dtype, "F16");
    assertEquals(new Uint16Array(read(`${kind}.basis`)), basis);
    assertEquals(new Float32Array(read(`${kind}.mean`)), mean);
    assertEquals(new Float64Array(read(`${kind}.energy`)), table.energy);
    assertEquals(new Float32Array(read(`${kind}.errors`)), table.errors);
    const groups = planFor(profile, kind, 8);
    assertEquals(tensors.get(`${kind}.groups`)!.shape, [groups.length, 3]);
    const flat = groups.flatMap(({ first, size, type }) => [first, size, type]);
    assertEquals([...new Int32Array(read(`${kind}.groups`))], flat);
  }
  const plain = await readSafetensorsHeader(memorySource(exportProfile(profile)));
  assert(!plain.tensors.has("key.groups"));
});
