import { assert, assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { KvzFormatError } from "../../../src/errors.ts";
import { trimKvzProfile } from "../../../src/profile/kvz/trim.ts";
import type { KvzProfile } from "../../../src/profile/kvz/types.ts";
import { parseProfile, serializeProfile } from "../../../src/profile/profile.ts";
import { smallKvzProfile } from "../../codec/kvz_profile.ts";

const small: Promise<KvzProfile> = smallKvzProfile();

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
