import { assert, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { naturalLog, power, powerOfTwo } from "../../src/cache/power.ts";
import { cosSin } from "../../src/cache/trig.ts";
import golden from "./trig_golden.json" with { type: "json" };

/** Distance in units in the last place of `wanted`. */
function ulps(found: number, wanted: number): number {
  if (found === wanted) return 0;
  const exponent = Math.max(-1022, Math.floor(Math.log2(Math.abs(wanted))));
  return Math.abs(found - wanted) / 2 ** Math.max(-1074, exponent - 52);
}

/** Asserts that the greatest distance is within a bound. */
function assertWorst(distances: [number, unknown][], most: number): void {
  const [worst, where] = distances.reduce((a, b) => b[0] > a[0] ? b : a);
  assert(worst <= most, `${worst} ulp at ${JSON.stringify(where)}, expected at most ${most}`);
}

Deno.test("cosSin: mpmath's values to a unit in the last place, next to multiples of π/2 too", () => {
  const distances: [number, unknown][] = [];
  let small = 0;
  for (const [angle, cos, sin] of golden.angles) {
    const found = cosSin(angle);
    for (const [i, wanted] of [cos, sin].entries()) {
      // Below, reduction leaves an absolute error.
      if (angle > 1 && Math.abs(wanted) < 2 ** -34) {
        assert(Math.abs(found[i] - wanted) < 2 ** -86, `${angle}: ${found[i]}, expected ${wanted}`);
        small++;
      } else distances.push([ulps(found[i], wanted), angle]);
    }
  }
  assert(small > 20);
  assertWorst(distances, 1);
});

const angle = fc.oneof(
  fc.double({ min: -(2 ** 31), max: 2 ** 31, noNaN: true, minExcluded: true, maxExcluded: true }),
  fc.double({ min: -10, max: 10, noNaN: true }),
);

Deno.test("cosSin: on the unit circle, even and odd, at the double angle", () => {
  fc.assert(
    fc.property(angle, (x) => {
      const [cos, sin] = cosSin(x);
      assert(Math.abs(cos * cos + sin * sin - 1) <= 2 * 2 ** -52);
      assertEquals(cosSin(-x), [cos, x === 0 ? sin : -sin]);
      if (Math.abs(x) >= 2 ** 30) return;
      const [cos2, sin2] = cosSin(2 * x);
      assert(Math.abs(cos2 - (cos - sin) * (cos + sin)) <= 2 ** -50);
      assert(Math.abs(sin2 - 2 * cos * sin) <= 2 ** -50);
    }),
    { numRuns: 5000 },
  );
});

Deno.test("cosSin: tiny angles are their own sine, huge ones and no numbers are refused", () => {
  for (const x of [5e-324, 1e-310, 2 ** -1022, 1e-20, 2 ** -30]) assertEquals(cosSin(x), [1, x]);
  assertEquals(cosSin(0), [1, 0]);
  for (const x of [2 ** 31, -(2 ** 31), 1e300, Infinity, -Infinity, NaN]) {
    assertThrows(() => cosSin(x), RangeError, `${x} rad`);
  }
});

Deno.test("naturalLog: mpmath's values to a unit in the last place", () => {
  assertWorst(golden.logs.map(([x, wanted]) => [ulps(naturalLog(x), wanted), x]), 1);
  assertEquals([0, -1, NaN, Infinity, 1].map(naturalLog), [-Infinity, NaN, NaN, Infinity, 0]);
});

Deno.test("power: mpmath's values, rounded to nearest", () => {
  assertWorst(golden.powers.map(([base, n, d, wanted]) => [ulps(power(base, n, d), wanted), [base, n, d]]), 0);
  for (const base of [0, -1, NaN, Infinity]) assertThrows(() => power(base, 1, 2), RangeError, "positive finite");
  assertThrows(() => power(2, 0.5, 2), RangeError);
  assertThrows(() => power(2, 1, 0), RangeError);
});

Deno.test("power: roots and powers take each other back", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 94906265 }), fc.integer({ min: 1, max: 99 }), (base, n) => {
      assertEquals(power(base * base, 1, 2), base);
      assertEquals(power(base, n, n), base);
      assertEquals(power(base, 2, 1), base * base);
      assertEquals(power(base, 0, n), 1);
    }),
  );
});

Deno.test("powerOfTwo: every float64 power of two by its bits", () => {
  const view = new DataView(new ArrayBuffer(8));
  for (let n = -1074; n < 1024; n++) {
    view.setBigUint64(0, n < -1022 ? 1n << BigInt(n + 1074) : BigInt(n + 1023) << 52n);
    assertEquals(powerOfTwo(n), view.getFloat64(0));
  }
});
