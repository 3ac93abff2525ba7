import { assert, assertAlmostEquals, assertEquals, assertThrows } from "deno-std/assert";
import { CalibrateKernels } from "../../src/backend/wasm/calibrate_kernels.ts";
import { GramAccumulator, mergeMoments, type Moments, triangleLength, triangleRow } from "../../src/profile/gram.ts";
import { fillGaussian } from "../../src/profile/random.ts";

const BUILDS = ["base", "simd", "relaxed"] as const;

/** Rows [count][features] with means far from 0 and spreads of several sizes. */
function rowsOf(count: number, features: number, seed: number): Float32Array<ArrayBuffer> {
  const noise = new Float64Array(count * features);
  fillGaussian(noise, seed);
  return Float32Array.from(noise, (x, at) => 100 * Math.cos(at % features) + x * (1 + at % features));
}

/** Mean and co-moment in plain float64. */
function bruteForce(x: Float32Array, features: number): Moments {
  const count = x.length / features;
  const mean = new Float64Array(features);
  for (let at = 0; at < x.length; at++) mean[at % features] += x[at] / count;
  const comoment = new Float64Array(triangleLength(features));
  for (let t = 0; t < count; t++) {
    for (let i = 0, at = 0; i < features; i++) {
      for (let j = i; j < features; j++, at++) {
        comoment[at] += (x[t * features + i] - mean[i]) * (x[t * features + j] - mean[j]);
      }
    }
  }
  return { count, mean, comoment };
}

/** Co-moments agree relative to the spreads of their two features. */
function assertMoments(actual: Moments, expected: Moments, relative: number): void {
  const n = expected.mean.length;
  assertEquals(actual.count, expected.count);
  assertEquals(actual.comoment.length, expected.comoment.length);
  const spread = (i: number) => Math.sqrt(expected.comoment[triangleRow(n, i)]);
  for (let i = 0, at = 0; i < n; i++) {
    assertAlmostEquals(actual.mean[i], expected.mean[i], 1e-4 * spread(i) / expected.count ** 0.5 + 1e-6);
    for (let j = i; j < n; j++, at++) {
      assertAlmostEquals(actual.comoment[at], expected.comoment[at], relative * spread(i) * spread(j));
    }
  }
}

for (const build of BUILDS) {
  Deno.test(`GramAccumulator equals float64 sums for any split into blocks (${build})`, async () => {
    for (
      const [features, blocks] of [[1, [2]], [7, [1, 2, 3]], [12, [64]], [25, [33, 100, 7]], [50, [512, 5]]] as const
    ) {
      const kernels = await CalibrateKernels.open(build);
      const gram = new GramAccumulator(kernels, features);
      const count = blocks.reduce((a: number, b: number) => a + b, 0);
      const x = rowsOf(count, features, features);
      const stride = features + 3;
      let begin = 0;
      for (const rows of blocks) {
        const padded = new Float32Array(rows * stride).fill(NaN);
        for (let t = 0; t < rows; t++) {
          padded.set(x.subarray((begin + t) * features, (begin + t + 1) * features), t * stride);
        }
        gram.add(padded, rows, stride);
        begin += rows;
      }
      const expected = bruteForce(x, features);
      assertMoments(gram.moments(), expected, 2e-6);
      // The matrix for the decomposition is the same, with both triangles.
      const { matrix, mean, trace } = gram.centre();
      assertEquals([matrix.n, mean.length], [features, features]);
      let sum = 0;
      for (let i = 0; i < features; i++) {
        sum += expected.comoment[triangleRow(features, i)];
        const row = kernels.f64(matrix.address + i * matrix.stride * 8, features);
        for (let j = 0; j < i; j++) {
          assertEquals(row[j], kernels.f64(matrix.address + j * matrix.stride * 8, features)[i]);
        }
      }
      assertAlmostEquals(trace / sum, 1, 1e-5);
      assertThrows(() => gram.moments(), RangeError, "centred");
    }
  });

  Deno.test(`merging statistics, in TypeScript or into an accumulator, equals the whole (${build})`, async () => {
    const features = 20;
    const parts = [40, 3, 150].map((count, i) => rowsOf(count, features, 10 + i));
    const whole = bruteForce(Float32Array.from(parts.flatMap((part) => [...part])), features);
    const moments = parts.map((part) => bruteForce(part, features));
    assertMoments(mergeMoments(mergeMoments(moments[0], moments[1]), moments[2]), whole, 1e-12);
    assertMoments(mergeMoments(moments[2], mergeMoments(moments[1], moments[0])), whole, 1e-12);

    const gram = new GramAccumulator(await CalibrateKernels.open(build), features);
    gram.merge(moments[0]);
    gram.add(parts[1], 3, features);
    gram.merge(moments[2]);
    assertMoments(gram.moments(), whole, 2e-6);
  });
}

Deno.test("empty statistics merge without effect", async () => {
  const features = 5;
  const some = bruteForce(rowsOf(9, features, 1), features);
  const none: Moments = { count: 0, mean: new Float64Array(5), comoment: new Float64Array(triangleLength(5)) };
  assertMoments(mergeMoments(none, some), some, 1e-14);
  assertMoments(mergeMoments(some, none), some, 1e-14);
  const gram = new GramAccumulator(await CalibrateKernels.open(), features);
  gram.merge(none);
  gram.add(new Float32Array(), 0, features);
  assertEquals(gram.moments(), none);
});

Deno.test("GramAccumulator refuses values that are not finite, squares that overflow and other features", async () => {
  const kernels = await CalibrateKernels.open();
  for (const value of [NaN, Infinity, -Infinity]) {
    const x = rowsOf(10, 6, 1);
    x[33] = value;
    assertThrows(() => new GramAccumulator(kernels, 6).add(x, 10, 6), RangeError, "not a finite number");
  }
  const gram = new GramAccumulator(kernels, 6);
  const x = rowsOf(10, 6, 1);
  x[0] = 1e30;
  gram.add(x, 10, 6);
  assertThrows(() => gram.centre(), RangeError, "too large to be squared");
  const other = bruteForce(rowsOf(4, 7, 1), 7);
  assertThrows(() => new GramAccumulator(kernels, 6).merge(other), RangeError, "7 features, expected 6");
  assertThrows(() => mergeMoments(bruteForce(rowsOf(4, 6, 1), 6), other), RangeError, "6 and 7 features");
});

Deno.test("a large common offset costs no accuracy", async () => {
  const [features, count] = [10, 600];
  const x = rowsOf(count, features, 4).map((value) => Math.fround(value / 100) + 4096);
  const gram = new GramAccumulator(await CalibrateKernels.open(), features);
  for (let begin = 0; begin < count; begin += 200) {
    gram.add(x.subarray(begin * features, (begin + 200) * features), 200, features);
  }
  assertMoments(gram.moments(), bruteForce(x, features), 1e-5);
  assert(gram.count === count);
});
