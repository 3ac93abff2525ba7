import { assertEquals, assertMatch, assertRejects } from "deno-std/assert";
import fc from "fast-check";
import { KvzFormatError } from "../../../src/errors.ts";
import { flawOfMoments } from "../../../src/profile/kvz/semidefinite.ts";
import { openSensitivity } from "../../../src/profile/kvz/sensitivity.ts";
import { random, SMALL_MODEL } from "../../synthetic.ts";

/** Σ weight · v vᵀ of random directions, as float32 holds it. */
function moments(dim: number, weights: readonly number[], seed: number): Float64Array {
  const next = random(seed);
  const block = new Float64Array(dim * dim);
  for (const weight of weights) {
    const v = Float64Array.from({ length: dim }, () => next() - 0.5);
    for (let i = 0; i < dim; i++) for (let j = 0; j < dim; j++) block[i * dim + j] += weight * v[i] * v[j];
  }
  return Float64Array.from(block, Math.fround);
}

Deno.test("second moments of any rank and size are taken as such", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 32 }),
    fc.array(fc.double({ min: 1e-12, max: 1e12, noNaN: true }), { maxLength: 40 }),
    fc.nat(),
    (dim, weights, seed) => assertEquals(flawOfMoments(moments(dim, weights, seed), dim), null),
  ));
});

Deno.test("a direction of negative weight is found wherever it lies", () => {
  assertMatch(String(flawOfMoments(Float64Array.of(0, 1, 1, 0), 2)), /negative weight/);
  fc.assert(fc.property(
    fc.integer({ min: 2, max: 32 }),
    fc.double({ min: 0.05, max: 10, noNaN: true }),
    fc.nat(),
    (dim, weight, seed) => {
      // A unit of weight everywhere, and one direction of unit length in which more than that is missing.
      const next = random(seed);
      const v = Float64Array.from({ length: dim }, () => next() - 0.5);
      const square = v.reduce((sum, x) => sum + x * x, 0);
      const block = new Float64Array(dim * dim);
      for (let i = 0; i < dim; i++) {
        for (let j = 0; j < dim; j++) block[i * dim + j] = (i === j ? 1 : 0) - (1 + weight) * v[i] * v[j] / square;
      }
      assertMatch(String(flawOfMoments(block, dim)), /negative weight|on its diagonal/);
    },
  ));
});

Deno.test("sensitivity: blocks that are no second moments are refused by layer and head", async () => {
  const unit = (dim: number) =>
    Float64Array.from({ length: 3 * 2 * dim * dim }, (_, i) => i % (dim * dim) % (dim + 1) === 0 ? 1 : 0);
  const given = () => ({ source: "fisher" as const, key: unit(10), value: unit(6) });
  assertEquals((await openSensitivity(given(), SMALL_MODEL)).source, "fisher");
  const at = (layer: number, head: number, i: number, j: number) => (layer * 2 + head) * 36 + i * 6 + j;
  for (
    const [change, expected] of [
      [[[at(1, 1, 2, 2), -1]], "the value block of layer 1, head 1 has -1 on its diagonal"],
      [[[at(0, 0, 4, 4), NaN]], "layer 0, head 0 has NaN on its diagonal"],
      [[[at(0, 0, 4, 3), NaN]], "layer 0, head 0 is not symmetric: NaN and 0 at [4][3] and [3][4]"],
      [[[at(2, 0, 3, 1), 0.5]], "layer 2, head 0 is not symmetric: 0.5 and 0 at [3][1] and [1][3]"],
      [[[at(0, 1, 5, 0), 1.5], [at(0, 1, 0, 5), 1.5]], "layer 0, head 1 has a direction of negative weight"],
    ] as const
  ) {
    const blocks = given();
    for (const [index, value] of change) blocks.value[index] = value;
    await assertRejects(() => openSensitivity(blocks, SMALL_MODEL), KvzFormatError, expected);
  }
});
