/** Plans of the Table 5 benchmark. */
import { assert, assertEquals, assertLess } from "deno-std/assert";
import fc from "fast-check";
import { scaledVariance } from "../../bench/gpu/spectrum.ts";
import { byType, describePlan, dpPlan, keptComponents, planBits, planOf } from "../../bench/gpu/table5_plan.ts";
import { GROUP_SIZES } from "../../src/profile/types.ts";

Deno.test("plans have exactly the components asked for, in the recipe's groups, at 16 times or more", () => {
  const cases = fc.record({ features: fc.constantFrom(32768, 40960), components: fc.integer({ min: 1, max: 10000 }) });
  fc.assert(fc.property(cases, ({ features, components }) => {
    const groups = planOf(features, components);
    assertEquals(keptComponents(groups), components);
    let first = 0;
    for (const group of groups) {
      assertEquals(group.first, first);
      assert(GROUP_SIZES.includes(group.size));
      first += group.size;
    }
    // From fp8 to int2, each type from a multiple of 256 on.
    groups.slice(1).forEach(({ first, type }, i) => {
      assert(type <= groups[i].type);
      if (type < groups[i].type) assertEquals(first % 256, 0);
    });
    assert(planBits(groups) <= features);
  }));
  const table5 = planOf(40960, 10000);
  assertEquals(describePlan(table5), "fp8 2×256, int4 32×256, int2 5×256 1×16");
  // No more than half a group of 256 is left of the ratio's bits where there are components enough.
  assertLess(16 * 40960 / planBits(table5), 16.2);
});

Deno.test("the dynamic program keeps what its cap and its budget allow, the strong components with more bits", async () => {
  const [free, capped] = [await dpPlan("key", 2048, 16), await dpPlan("key", 2048, 16, 300)];
  for (const groups of [free, capped]) {
    assert(planBits(groups) <= 2048);
    assert(planBits(groups) > 0.95 * 2048, `${planBits(groups)} bits`);
  }
  assert(keptComponents(free) > 400, `${keptComponents(free)} components`);
  assert(keptComponents(capped) <= 300);
  assert(free[0].type >= free[free.length - 1].type);
});

Deno.test("variances fall, and stretch with the features", () => {
  const [small, large] = [scaledVariance("value", 5760, 2048), scaledVariance("value", 46080, 16384)];
  small.slice(1).forEach((x, i) => assert(x < small[i]));
  for (const c of [100, 1000, 2000]) assertLess(Math.abs(Math.log2(small[c] / large[8 * c + 4])), 0.02);
});

Deno.test("groups of a type lie side by side from a multiple on", () => {
  const groups = byType([
    { first: 0, size: 16, type: 2 },
    { first: 20, size: 1, type: 3 },
    { first: 64, size: 64, type: 1 },
    { first: 128, size: 1, type: 2 },
  ], 16);
  assertEquals(groups, [
    { first: 0, size: 1, type: 3 },
    { first: 16, size: 16, type: 2 },
    { first: 32, size: 1, type: 2 },
    { first: 48, size: 64, type: 1 },
  ]);
});
