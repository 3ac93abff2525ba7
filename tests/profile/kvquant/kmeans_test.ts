import { assert, assertAlmostEquals, assertEquals, assertLess } from "deno-std/assert";
import fc from "fast-check";
import { lineMeans } from "../../../src/profile/kvquant/kmeans.ts";

const points = fc.uniqueArray(
  fc.record({ value: fc.integer({ min: -50, max: 50 }), weight: fc.integer({ min: 1, max: 20 }) }),
  { minLength: 1, maxLength: 12, selector: ({ value }) => value },
).map((all) => {
  const sorted = all.sort((a, b) => a.value - b.value);
  return {
    values: Float64Array.from(sorted, ({ value }) => value / 8),
    weights: Float64Array.from(sorted, ({ weight }) => weight),
  };
});
type Points = { readonly values: Float64Array; readonly weights: Float64Array };

/** Σ weight · squared distance to the nearest centre, by trying all. */
function cost({ values, weights }: Points, centres: ArrayLike<number>): number {
  return values.reduce(
    (sum, x, i) => sum + weights[i] * Math.min(...Array.from(centres, (centre) => (x - centre) ** 2)),
    0,
  );
}

/** The least cost of `count` centres: on a line clusters are intervals, so that dynamic programming finds it. */
function leastCost({ values, weights }: Points, count: number): number {
  const interval = (begin: number, end: number) => {
    const part = { values: values.subarray(begin, end), weights: weights.subarray(begin, end) };
    const weight = part.weights.reduce((a, b) => a + b, 0);
    return cost(part, [part.values.reduce((sum, x, i) => sum + x * part.weights[i], 0) / weight]);
  };
  let best = Array.from({ length: values.length + 1 }, (_, end) => end === 0 ? 0 : Infinity);
  for (let k = 0; k < count; k++) {
    best = best.map((old, end) =>
      Math.min(old, ...Array.from({ length: end }, (_, begin) => best[begin] + interval(begin, end)))
    );
  }
  return best[values.length];
}

/** Where the centres begin: the weighted quantiles in the middles of `count` equal parts. */
function starts({ values, weights }: Points, count: number): number[] {
  const total = weights.reduce((a, b) => a + b, 0);
  return Array.from({ length: count }, (_, k) => {
    let sum = 0;
    return values[weights.findIndex((weight) => (sum += weight) > (k + 0.5) / count * total)];
  });
}

Deno.test("k-means on a line: rising, no worse than its start, no better than the best, and Lloyd's fixed point", () => {
  fc.assert(
    fc.property(points, fc.constantFrom(1, 2, 4), (points, count) => {
      const centres = lineMeans(points, count);
      assertEquals(centres.length, count);
      assert(centres.every((centre, i) => i === 0 || centre >= centres[i - 1]));
      const found = cost(points, centres);
      assert(found <= cost(points, starts(points, count)) + 1e-9);
      assert(found >= leastCost(points, count) - 1e-9);
      // Every centre is the mean of what is nearest to it, the lower of two equally near ones.
      const { values, weights } = points;
      const nearest = Array.from(values, (x) => {
        let best = 0;
        centres.forEach((centre, k) => {
          if (Math.abs(x - centre) < Math.abs(x - centres[best])) best = k;
        });
        return best;
      });
      centres.forEach((centre, k) => {
        let [sum, weight] = [0, 0];
        nearest.forEach((of, i) => {
          if (of !== k) return;
          sum += weights[i] * values[i];
          weight += weights[i];
        });
        if (weight > 0) assertAlmostEquals(centre, sum / weight, 1e-12);
      });
    }),
    { numRuns: 500 },
  );
});

Deno.test("k-means on a line: clusters that lie apart are found, whatever they weigh", () => {
  const values = Float64Array.from([-3, -2.9, -2.8, 0, 0.1, 5, 5.1, 5.2]);
  const weights = Float64Array.from([1, 2, 1, 4, 4, 1, 2, 1]);
  const centres = lineMeans({ values, weights }, 3);
  [-2.9, 0.05, 5.1].forEach((wanted, i) => assertAlmostEquals(centres[i], wanted, 1e-12));
  assertAlmostEquals(cost({ values, weights }, centres), leastCost({ values, weights }, 3), 1e-12);
  // Of a Gaussian's quantiles it finds Max's quantizer of 2 bits (1960, Table I).
  const gaussian = Float64Array.from({ length: 4001 }, (_, i) => (i - 2000) / 400);
  const bell = gaussian.map((x) => Math.exp(-x * x / 2));
  const found = lineMeans({ values: gaussian, weights: bell }, 4);
  [-1.510, -0.4528, 0.4528, 1.510].forEach((wanted, i) => assertLess(Math.abs(found[i] - wanted), 5e-3));
});

Deno.test("k-means on a line: fewer values than centres, and one value", () => {
  assertEquals([...lineMeans({ values: Float64Array.of(2), weights: Float64Array.of(3) }, 4)], [2, 2, 2, 2]);
  const two = lineMeans({ values: Float64Array.of(-1, 1), weights: Float64Array.of(1, 1) }, 4);
  assertEquals([two[0], two[3]], [-1, 1]);
});
