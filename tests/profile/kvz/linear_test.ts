import { assert, assertAlmostEquals, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { CalibrateKernels } from "../../../src/backend/wasm/calibrate_kernels.ts";
import type { ModelSpec } from "../../../src/cache/types.ts";
import { GramAccumulator } from "../../../src/profile/gram.ts";
import { roundBasis } from "../../../src/profile/kvz/int7.ts";
import { eachBlock, fitJoint } from "../../../src/profile/kvz/joint_fitter.ts";
import { plainSensitivity, scaleForHalf, weightingOf } from "../../../src/profile/kvz/sensitivity.ts";
import { random } from "../../synthetic.ts";
import { symmetricEigenJacobi } from "./jacobi.ts";

const MODEL: ModelSpec = {
  architecture: "llama",
  id: "linear-test-model",
  layers: 2,
  kvHeads: 2,
  keyDim: 4,
  valueDim: 2,
  rope: null,
};
const kernels = await CalibrateKernels.open("auto");
const KEYS = 16;
const FEATURES = 24;

/** a [n][k] · b [k][m]. */
function times(a: ArrayLike<number>, b: ArrayLike<number>, n: number, k: number, m: number): Float64Array {
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < m; j++) for (let l = 0; l < k; l++) out[i * m + j] += a[i * k + l] * b[l * m + j];
  }
  return out;
}

function transpose(a: ArrayLike<number>, n: number, m: number): Float64Array {
  return Float64Array.from({ length: n * m }, (_, at) => a[(at % n) * m + Math.floor(at / n)]);
}

/** Positive definite blocks, [count][dim][dim]. */
function blocksOf(count: number, dim: number, seed: number): Float64Array {
  const next = random(seed);
  const out = new Float64Array(count * dim * dim);
  for (let b = 0; b < count; b++) {
    const root = Float64Array.from({ length: dim * dim }, () => (b + 1) * (next() - 0.5));
    out.set(times(root, transpose(root, dim, dim), dim, dim, dim), b * dim * dim);
  }
  return out;
}

Deno.test("Jacobi: eigenvalues of the discrete Laplacian, which are known", () => {
  for (const n of [1, 2, 3, 17, 64]) {
    const matrix = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      matrix[i * n + i] = 2;
      if (i > 0) matrix[i * n + i - 1] = matrix[(i - 1) * n + i] = -1;
    }
    const { values } = symmetricEigenJacobi(matrix, n);
    values.sort();
    for (let k = 0; k < n; k++) {
      assertAlmostEquals(values[k], 2 - 2 * Math.cos((k + 1) * Math.PI / (n + 1)), 1e-12);
    }
  }
});

Deno.test("Jacobi: vectors are orthonormal and give the matrix back, whatever it is", () => {
  const check = (matrix: Float64Array, n: number) => {
    const { values, vectors } = symmetricEigenJacobi(matrix, n);
    const back = times(transpose(vectors, n, n), vectors.map((v, at) => v * values[Math.floor(at / n)]), n, n, n);
    const gram = times(vectors, transpose(vectors, n, n), n, n, n);
    for (let i = 0; i < n * n; i++) {
      assertAlmostEquals(back[i], matrix[i], 1e-10);
      assertAlmostEquals(gram[i], i % (n + 1) === 0 ? 1 : 0, 1e-12);
    }
  };
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 7 }).chain((n) =>
      fc.tuple(
        fc.constant(n),
        fc.array(fc.double({ min: -9, max: 9, noNaN: true }), { minLength: n * n, maxLength: n * n }),
      )
    ),
    ([n, entries]) =>
      check(Float64Array.from(entries, (_, at) => entries[at] + entries[(at % n) * n + Math.floor(at / n)]), n),
  ));
  check(blocksOf(1, 64, 5), 64);
});

/** Heads as wide as Gemma's have 256. */
for (const dim of [4, 96]) {
  Deno.test(`weights of ${dim}: root² is the stored matrix, the inverse is one`, () => {
    const tolerance = 1e-12 * dim * dim;
    const { stored, root, inverse } = weightingOf(kernels, blocksOf(3, dim, 4), dim);
    const exact = (bits: number) => new Float16Array(Uint16Array.of(bits).buffer)[0];
    for (let b = 0; b < 3; b++) {
      const part = (all: Float64Array) => all.slice(b * dim * dim, (b + 1) * dim * dim);
      const square = times(part(root), part(root), dim, dim, dim);
      const one = times(part(root), part(inverse), dim, dim, dim);
      for (let i = 0; i < dim * dim; i++) {
        assertAlmostEquals(square[i], exact(stored[b * dim * dim + i]), tolerance);
        assertAlmostEquals(one[i], i % (dim + 1) === 0 ? 1 : 0, tolerance);
      }
    }
  });
}

Deno.test("a weight far above its block's mean stays finite when small ones are scaled for binary16", () => {
  const dim = 256;
  const model: ModelSpec = { layers: 1, kvHeads: 1, keyDim: dim, valueDim: dim, rope: null };
  const diagonal = (values: (i: number) => number) =>
    Float64Array.from({ length: dim * dim }, (_, at) => at % (dim + 1) === 0 ? values(at % dim) : 0);
  const blocks = { source: "fisher", key: diagonal((i) => i === 7 ? 0.5 : 1e-6), value: diagonal(() => 6e-6) } as const;
  const scaled = scaleForHalf(blocks, model);
  const scale = scaled.key[7 * (dim + 1)] / 0.5;
  assertEquals(Number.isInteger(Math.log2(scale) / 2), true);
  assertEquals(scaled.value[0], 6e-6 * scale);
  const { stored, root, inverse } = weightingOf(kernels, scaled.key, dim);
  assert(stored.every((bits) => (bits & 0x7c00) !== 0x7c00));
  assert(root.every(Number.isFinite) && inverse.every(Number.isFinite));
  // What binary16 holds is left as it is.
  const fit = { ...blocks, value: diagonal(() => 1) };
  assertEquals(scaleForHalf(fit, model), fit);
});

Deno.test("weights without sensitivity are the inverse mean square of a layer", () => {
  const key = Float64Array.from({ length: KEYS }, (_, i) => i < 8 ? 4 : 0);
  const value = Float64Array.from({ length: 8 }, (_, i) => i % 2 === 0 ? 1 : 3);
  const blocks = plainSensitivity(MODEL, { key, value });
  assertEquals(blocks.source, "none");
  // Layer 0's keys have a mean square of 4, layer 1's do not vary at all.
  const diagonal = (block: number) => blocks.key.slice(block * 16, block * 16 + 16);
  assertEquals([...diagonal(1)], [0.25, 0, 0, 0, 0, 0.25, 0, 0, 0, 0, 0.25, 0, 0, 0, 0, 0.25]);
  assertEquals([...diagonal(2)], [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
  assertEquals([...blocks.value.slice(0, 4)], [0.5, 0, 0, 0.5]);
});

Deno.test("the joint fit is the weighted principal components of keys and values", async () => {
  const tokens = 200;
  const next = random(9);
  const mix = Float64Array.from({ length: FEATURES * FEATURES }, (_, i) => (next() - 0.5) * 2 ** -(i / FEATURES / 4));
  const factors = Float64Array.from({ length: tokens * FEATURES }, () => next() - 0.5);
  const x = Float32Array.from(times(factors, mix, tokens, FEATURES, FEATURES), (v, i) => v + i % FEATURES / 8);
  const weightings = {
    key: weightingOf(kernels, blocksOf(4, 4, 1), 4),
    value: weightingOf(kernels, blocksOf(4, 2, 2), 2),
  };

  // Dense float64: A, the weighted centred rows, their covariance and its spectrum.
  const A = new Float64Array(FEATURES * FEATURES);
  eachBlock(KEYS, FEATURES, weightings, ({ root, dim }, block, begin) => {
    for (let i = 0; i < dim; i++) {
      for (let j = 0; j < dim; j++) A[(begin + i) * FEATURES + begin + j] = root[(block * dim + i) * dim + j];
    }
  });
  const mean = new Float64Array(FEATURES);
  x.forEach((v, i) => mean[i % FEATURES] += v / tokens);
  const weighted = times(x.map((v, i) => v - mean[i % FEATURES]), A, tokens, FEATURES, FEATURES);
  const covariance = times(transpose(weighted, tokens, FEATURES), weighted, FEATURES, tokens, FEATURES)
    .map((v) => v / tokens);
  const spectrum = symmetricEigenJacobi(covariance, FEATURES).values.sort().reverse();

  for (const build of ["base", "simd"] as const) {
    const kernels = await CalibrateKernels.open(build);
    for (const rank of [FEATURES, 6]) {
      const gram = new GramAccumulator(kernels, FEATURES);
      gram.add(x, tokens, FEATURES);
      const fit = fitJoint(kernels, gram, MODEL, () => weightings, { rank, svd: "exact", seed: 0 });
      assertEquals(fit.variance.length, rank);
      const tolerance = spectrum[0] * 1e-5;
      for (let c = 0; c < rank; c++) assertAlmostEquals(fit.variance[c], spectrum[c], tolerance);
      assertAlmostEquals(fit.totalVariance, spectrum.reduce((a, b) => a + b, 0), tolerance);
      for (let f = 0; f < FEATURES; f++) assertAlmostEquals(fit.mean[f], mean[f], 1e-5);

      // Coefficients by A² · back, the way back by back: what is lost is the tail of the spectrum.
      const forward = times(times(fit.back, A, rank, FEATURES, FEATURES), A, rank, FEATURES, FEATURES);
      const centred = x.map((v, i) => v - mean[i % FEATURES]);
      const coefficients = times(centred, transpose(forward, rank, FEATURES), tokens, FEATURES, rank);
      const restored = times(coefficients, fit.back, tokens, rank, FEATURES);
      const error = times(restored.map((v, i) => v - centred[i]), A, tokens, FEATURES, FEATURES);
      const lost = error.reduce((sum, v) => sum + v * v, 0) / tokens;
      assertAlmostEquals(lost, spectrum.slice(rank).reduce((a, b) => a + b, 0), tolerance);
      // The components themselves, A · back, are orthonormal.
      const q = times(fit.back, A, rank, FEATURES, FEATURES);
      const one = times(q, transpose(q, rank, FEATURES), rank, FEATURES, rank);
      one.forEach((v, i) => assertAlmostEquals(v, i % (rank + 1) === 0 ? 1 : 0, 1e-8));
    }
  }
});

Deno.test("rounding a basis adds no more noise than its share, and rounds weak rows more coarsely", () => {
  const [components, features, dim] = [40, 600, 20];
  const next = random(3);
  const back = Float64Array.from({ length: components * features }, () => (next() - 0.5) / Math.sqrt(features / 12));
  const blocks = Array.from({ length: features / dim }, (_, b) => {
    // A diagonal, and three directions that weigh far more.
    const cost = Float64Array.from({ length: dim * dim }, (_, at) => Math.floor(at / dim) === at % dim ? 0.5 : 0);
    for (let k = 0; k < 3; k++) {
      const direction = Float64Array.from({ length: dim }, () => next() - 0.5);
      for (let i = 0; i < dim; i++) for (let j = 0; j < dim; j++) cost[i * dim + j] += 4 * direction[i] * direction[j];
    }
    return { begin: b * dim, dim, cost };
  });
  const costOf = (error: Float64Array) => {
    let sum = 0;
    for (const { begin, cost } of blocks) {
      for (let i = 0; i < dim; i++) {
        for (let j = 0; j < dim; j++) sum += error[begin + i] * cost[i * dim + j] * error[begin + j];
      }
    }
    return sum;
  };
  const variance = Float64Array.from({ length: components }, (_, c) => 40 * 2 ** -c);
  const finest = 0.5;
  const { basis, scales } = roundBasis(back, features, blocks, variance, finest);
  const multiples: number[] = [];
  let [coarse, fine, costs, nearest] = [0, 0, 0, 0];
  for (let c = 0; c < components; c++) {
    const row = basis.subarray(c * features, (c + 1) * features);
    const exact = back.subarray(c * features, (c + 1) * features);
    assert(row.every((v) => Math.abs(v) <= 63));
    const multiple = [16, 8, 4, 2, 1].find((m) => row.every((v) => v % m === 0))!;
    const error = costOf(Float64Array.from(row, (v, f) => v * scales[f] - exact[f]));
    multiples.push(multiple);
    if (multiple === 1) fine += error * variance[c];
    else coarse = Math.max(coarse, error * variance[c]);
    // Coarser ones do not reach the largest entries.
    if (multiple > 2) continue;
    costs += error / multiple ** 2;
    nearest += costOf(exact.map((v, f) => {
      const unit = scales[f] * multiple;
      return Math.round(v / unit) * unit - v;
    })) / multiple ** 2;
  }
  // A share of 0.12 of a coefficient's noise, 0.25 Δ²; entries at ±63 that a multiple does not reach cost a little more.
  assert(coarse < 1.3 * 0.12 * 0.25 * finest ** 2, `${coarse}`);
  assert(fine > 0);
  assertEquals(multiples, multiples.toSorted((a, b) => a - b));
  assertEquals([multiples[0], multiples.at(-1)], [1, 16]);
  // Three directions of twenty have most of the weight: errors that know of each other leave them alone.
  assert(costs < 0.75 * nearest, `${costs} and ${nearest}`);
});
