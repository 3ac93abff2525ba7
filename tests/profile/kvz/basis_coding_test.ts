/** The basis as a profile's file has it. */
import { assertEquals, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { KvzFormatError } from "../../../src/errors.ts";
import { decodeBasis, encodeBasis, MULTIPLES } from "../../../src/profile/kvz/basis_coding.ts";
import type { KvzProfile } from "../../../src/profile/kvz/types.ts";
import { smallKvzProfile } from "../../codec/kvz_profile.ts";

const profile = await smallKvzProfile();

/** Rows in multiples, as far as ±63. */
const bases = fc.tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 40 })).chain((
  [components, features],
) =>
  fc.record({
    components: fc.constant(components),
    features: fc.constant(features),
    rows: fc.array(
      fc.constantFrom(...MULTIPLES).chain((multiple) => {
        const most = Math.floor(63 / multiple);
        const value = fc.integer({ min: -most, max: most }).map((times) => times * multiple);
        return fc.array(value, { minLength: features, maxLength: features });
      }),
      { minLength: components, maxLength: components },
    ),
  })
);

Deno.test("any basis comes back", async () => {
  await fc.assert(
    fc.asyncProperty(bases, async ({ components, features, rows }) => {
      const basis = Int8Array.from(rows.flat());
      const coded = await encodeBasis({ ...profile, components, features, basis } as KvzProfile);
      assertEquals(await decodeBasis(coded, components, features), basis);
    }),
  );
});

Deno.test("entries beyond 7 bits are refused, whatever the multiple", async () => {
  // 63 = 63 · 1 is in reach, twice as much is not; 60 = 15 · 4 is.
  for (const [value, multiple, refused] of [[63, 1, null], [63, 2, "±126"], [60, 4, null], [-17, 4, "±68"]] as const) {
    const basis = Int8Array.of(value, 1, 0, multiple === 4 && refused === null ? 4 : -1);
    const coded = await encodeBasis({ ...profile, components: 1, features: 4, basis } as KvzProfile);
    const other = { ...coded, multiples: Uint8Array.of(refused === null ? coded.multiples[0] : multiple) };
    if (refused === null) assertEquals(await decodeBasis(other, 1, 4), basis);
    else await assertRejects(() => decodeBasis(other, 1, 4), KvzFormatError, `a basis entry is ${refused}`);
  }
});
