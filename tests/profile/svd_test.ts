import { assert, assertAlmostEquals, assertEquals } from "deno-std/assert";
import { CalibrateKernels, GEMM } from "../../src/backend/wasm/calibrate_kernels.ts";
import { symmetricEigen } from "../../src/profile/eigen.ts";
import { orthonormalize, orthoScratch } from "../../src/profile/orthonormalize.ts";
import { fillGaussian, uniformGenerator } from "../../src/profile/random.ts";
import { exactSvd, type PrincipalComponents, randomizedSvd, type SymmetricMatrix } from "../../src/profile/svd.ts";

const BUILDS = ["base", "simd", "relaxed"] as const;

function gaussian(length: number, seed: number): Float64Array<ArrayBuffer> {
  const out = new Float64Array(length);
  fillGaussian(out, seed);
  return out;
}

/** Orthonormal rows [n][n] by Gram–Schmidt in plain float64, done twice. */
function orthogonal(n: number, seed: number): Float64Array<ArrayBuffer> {
  const q = gaussian(n * n, seed);
  for (let i = 0; i < n; i++) {
    const row = q.subarray(i * n, (i + 1) * n);
    for (let pass = 0; pass < 2; pass++) {
      for (let k = 0; k < i; k++) {
        const other = q.subarray(k * n, (k + 1) * n);
        const along = row.reduce((sum, x, j) => sum + x * other[j], 0);
        for (let j = 0; j < n; j++) row[j] -= along * other[j];
      }
    }
    const norm = Math.hypot(...row);
    for (let j = 0; j < n; j++) row[j] /= norm;
  }
  return q;
}

/** Σ values[k] · rows[k]ᵀ rows[k], the symmetric matrix with that spectrum. */
function withSpectrum(values: ArrayLike<number>, rows: Float64Array, n: number): Float64Array<ArrayBuffer> {
  const a = new Float64Array(n * n);
  for (let k = 0; k < values.length; k++) {
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) a[i * n + j] += values[k] * rows[k * n + i] * rows[k * n + j];
    }
  }
  return a;
}

function upload(kernels: CalibrateKernels, a: Float64Array, n: number, stride = n): SymmetricMatrix {
  const address = kernels.alloc(n * stride * 8);
  for (let i = 0; i < n; i++) {
    const row = kernels.f64(address + i * stride * 8, stride);
    row.fill(NaN);
    row.set(a.subarray(i * n, (i + 1) * n));
  }
  return { address, n, stride };
}

/** Largest departure of rows [count][n] from being orthonormal. */
function departure(rows: Float64Array, count: number, n: number): number {
  let worst = 0;
  for (let i = 0; i < count; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? -1 : 0;
      for (let k = 0; k < n; k++) sum += rows[i * n + k] * rows[j * n + k];
      worst = Math.max(worst, Math.abs(sum));
    }
  }
  return worst;
}

/** Largest share of a row of y that lies outside the span of orthonormal rows q [count][n]. */
function outside(y: Float64Array, q: Float64Array, count: number, n: number): number {
  let worst = 0;
  for (let i = 0; i < y.length; i += n) {
    const row = y.slice(i, i + n);
    const norm = Math.hypot(...row);
    for (let k = 0; k < count; k++) {
      const other = q.subarray(k * n, (k + 1) * n);
      const along = row.reduce((sum, x, j) => sum + x * other[j], 0);
      for (let j = 0; j < n; j++) row[j] -= along * other[j];
    }
    worst = Math.max(worst, Math.hypot(...row) / norm);
  }
  return worst;
}

/** Largest element of A·v − λ·v over all pairs, relative to the largest eigenvalue. */
function residual(a: Float64Array, n: number, values: Float64Array, rows: Float64Array): number {
  let worst = 0;
  for (let v = 0; v < values.length; v++) {
    for (let i = 0; i < n; i++) {
      let sum = -values[v] * rows[v * n + i];
      for (let j = 0; j < n; j++) sum += a[i * n + j] * rows[v * n + j];
      worst = Math.max(worst, Math.abs(sum));
    }
  }
  return worst / Math.max(Math.abs(values[0]), Math.abs(values.at(-1)!));
}

function vectorsOf(kernels: CalibrateKernels, { values, vectors }: PrincipalComponents, n: number): Float64Array {
  return kernels.f64(vectors, values.length * n).slice();
}

for (const build of BUILDS) {
  Deno.test(`symmetricEigen decomposes random matrices (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    for (const n of [1, 2, 3, 5, 8, 17, 64, 129]) {
      const g = gaussian(n * n, n);
      const a = g.map((x, at) => x + g[(at % n) * n + Math.floor(at / n)]);
      const { address } = upload(kernels, a, n);
      const vectors = kernels.alloc(n * n * 8);
      const values = symmetricEigen(kernels, address, n, vectors);
      assertEquals(values.toSorted((x, y) => y - x), values);
      const rows = kernels.f64(vectors, n * n);
      assert(departure(rows, n, n) < 1e-13);
      assert(residual(a, n, values, rows) < 1e-13);
    }
  });

  Deno.test(`symmetricEigen finds a known spectrum with repeated and zero eigenvalues (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    const n = 40;
    const spectrum = Array.from({ length: n }, (_, i) => i < 5 ? 100 : i < 20 ? 10 / (i + 1) : i < 25 ? -1e-3 * i : 0);
    const a = withSpectrum(spectrum, orthogonal(n, 3), n);
    const { address } = upload(kernels, a, n);
    const vectors = kernels.alloc(n * n * 8);
    const values = symmetricEigen(kernels, address, n, vectors);
    spectrum.sort((x, y) => y - x).forEach((value, i) => assertAlmostEquals(values[i], value, 1e-12));
    assert(departure(kernels.f64(vectors, n * n), n, n) < 1e-13);
    assert(residual(a, n, values, kernels.f64(vectors, n * n)) < 1e-13);
  });

  Deno.test(`symmetricEigen takes diagonal, tridiagonal and zero matrices (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    const n = 12;
    for (const element of [() => 0, (i: number, j: number) => (i === j ? i : 0), laplacian]) {
      const a = Float64Array.from({ length: n * n }, (_, at) => element(Math.floor(at / n), at % n));
      const { address } = upload(kernels, a, n);
      const vectors = kernels.alloc(n * n * 8);
      const values = symmetricEigen(kernels, address, n, vectors);
      const rows = kernels.f64(vectors, n * n);
      assert(departure(rows, n, n) < 1e-14);
      if (element === laplacian) {
        values.forEach((value, i) => assertAlmostEquals(value, 2 - 2 * Math.cos((n - i) * Math.PI / (n + 1)), 1e-13));
      }
      for (let v = 0; v < n; v++) {
        for (let i = 0; i < n; i++) {
          let sum = 0;
          for (let j = 0; j < n; j++) sum += a[i * n + j] * rows[v * n + j];
          assertAlmostEquals(sum, values[v] * rows[v * n + i], 1e-13);
        }
      }
    }
  });

  Deno.test(`gemm equals the sum of products for odd sizes, strides and all modes (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    const { exports } = kernels;
    const scratch = kernels.alloc(exports.gemmScratchBytes());
    for (const [m, n, k] of [[1, 1, 1], [5, 7, 3], [97, 13, 259], [8, 1205, 5], [3, 4, 0]]) {
      const [a, b, c] = [gaussian(m * k, 1), gaussian(k * n, 2), gaussian(m * (n + 1), 3)];
      // A is stored transposed, B as it is, C with a row stride of n + 1.
      const [pa, pb, pc] = [a, b, c].map((matrix) => {
        const address = kernels.alloc(matrix.length * 8);
        kernels.f64(address, matrix.length).set(matrix);
        return address;
      });
      for (const [flags, keep, sign] of [[0, 0, 1], [GEMM.accumulate, 1, 1], [GEMM.subtract, 1, -1]]) {
        kernels.f64(pc, c.length).set(c);
        exports.gemm(m, n, k, pa, 1, m, pb, n, 1, pc, n + 1, flags, scratch);
        const got = kernels.f64(pc, c.length);
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            let sum = 0;
            for (let p = 0; p < k; p++) sum += a[p * m + i] * b[p * n + j];
            assertAlmostEquals(got[i * (n + 1) + j], keep * c[i * (n + 1) + j] + sign * sum, 1e-11);
          }
          assertEquals(got[i * (n + 1) + n], c[i * (n + 1) + n], "wrote past a row");
        }
      }
    }
  });

  Deno.test(`orthonormalize keeps the span and yields orthonormal rows (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    const [rows, n] = [37, 150];
    const scratch = orthoScratch(kernels, rows);
    const basis = orthogonal(rows, 5);
    // Row scales over many orders make the condition 1, 10⁵ and 10¹⁰ (beyond plain CholeskyQR).
    for (const condition of [1, 1e5, 1e10]) {
      const directions = gaussian(rows * n, 9);
      const y = new Float64Array(rows * n);
      for (let i = 0; i < rows; i++) {
        for (let k = 0; k < rows; k++) {
          const weight = basis[i * rows + k] * condition ** (-k / (rows - 1));
          for (let j = 0; j < n; j++) y[i * n + j] += weight * directions[k * n + j];
        }
      }
      const address = kernels.alloc(y.length * 8);
      kernels.f64(address, y.length).set(y);
      assertEquals(orthonormalize(kernels, address, rows, n, 2, scratch), rows);
      const q = kernels.f64(address, y.length);
      assert(departure(q, rows, n) < 1e-13);
      assert(outside(y, q, rows, n) < 1e-12);
    }
  });

  Deno.test(`orthonormalize stays orthonormal where rows depend on others, and removes zeros (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    const [rows, rank, n] = [12, 7, 60];
    const directions = gaussian(rank * n, 1);
    const weights = gaussian(rows * rank, 2);
    const y = Float64Array.from({ length: rows * n }, (_, at) => {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += weights[Math.floor(at / n) * rank + k] * directions[k * n + at % n];
      return sum;
    });
    const address = kernels.alloc(y.length * 8);
    kernels.f64(address, y.length).set(y);
    const left = orthonormalize(kernels, address, rows, n, 2, orthoScratch(kernels, rows));
    assert(left >= rank);
    const q = kernels.f64(address, left * n).slice();
    assert(departure(q, left, n) < 1e-13);
    assert(outside(y, q, left, n) < 1e-12);

    kernels.f64(address, y.length).set(y.fill(0, 2 * n, 4 * n));
    kernels.f64(address, y.length).fill(0, 5 * n);
    assertEquals(orthonormalize(kernels, address, rows, n, 2, orthoScratch(kernels, rows)), 3);
    assert(departure(kernels.f64(address, 3 * n), 3, n) < 1e-13);
  });

  Deno.test(`randomizedSvd agrees with exactSvd and with the spectrum put in (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    const [n, rank] = [120, 30];
    const spectrum = Array.from({ length: n }, (_, i) => 1e4 / (i + 1) ** 2.5);
    const truth = orthogonal(n, 8);
    const a = withSpectrum(spectrum, truth, n);
    // A stride beyond n, with NaN in the padding, which nothing may read.
    const matrix = upload(kernels, a, n, n + 5);
    const exact = exactSvd(kernels, matrix, rank);
    const exactRows = vectorsOf(kernels, exact, n);
    const random = randomizedSvd(kernels, matrix, { rank, seed: 4 });
    const randomRows = vectorsOf(kernels, random, n);
    assertEquals([exact.values.length, random.values.length], [rank, rank]);
    for (let i = 0; i < rank; i++) {
      assertAlmostEquals(exact.values[i], spectrum[i], 1e-9);
      assertAlmostEquals(random.values[i] / spectrum[i], 1, 1e-5);
      const along = (x: Float64Array, y: Float64Array) => {
        let sum = 0;
        for (let j = 0; j < n; j++) sum += x[i * n + j] * y[i * n + j];
        return sum;
      };
      assertAlmostEquals(Math.abs(along(exactRows, truth)), 1, 1e-12);
      // Signs agree as well: both solvers make the largest element positive.
      assertAlmostEquals(along(exactRows, randomRows), 1, 1e-4);
    }
    assert(departure(exactRows, rank, n) < 1e-13);
    assert(departure(randomRows, rank, n) < 1e-13);
  });

  Deno.test(`both solvers return fewer components where the matrix has lower rank (${build})`, async () => {
    const kernels = await CalibrateKernels.open(build);
    const [n, rank] = [50, 6];
    const a = withSpectrum(Array.from({ length: rank }, (_, i) => 7 - i), orthogonal(n, 2), n);
    const matrix = upload(kernels, a, n);
    for (const fit of [exactSvd(kernels, matrix, 20), randomizedSvd(kernels, matrix, { rank: 20 })]) {
      assertEquals(fit.values.length, rank);
      fit.values.forEach((value, i) => assertAlmostEquals(value, 7 - i, 1e-11));
      assert(departure(vectorsOf(kernels, fit, n), rank, n) < 1e-12);
      assert(residual(a, n, fit.values, vectorsOf(kernels, fit, n)) < 1e-12);
    }
    const zero = upload(kernels, new Float64Array(n * n), n);
    assertEquals(exactSvd(kernels, zero, 5).values.length, 0);
    assertEquals(randomizedSvd(kernels, zero, { rank: 5 }).values.length, 0);
  });
}

function laplacian(i: number, j: number): number {
  return i === j ? 2 : Math.abs(i - j) === 1 ? -1 : 0;
}

Deno.test("randomizedSvd reports rising progress that ends at 1, and is repeatable", async () => {
  const n = 60;
  const a = withSpectrum(Array.from({ length: n }, (_, i) => 1 / (i + 1)), orthogonal(n, 1), n);
  const results: Float64Array[] = [];
  for (let run = 0; run < 2; run++) {
    const kernels = await CalibrateKernels.open();
    const heard: number[] = [];
    const fit = randomizedSvd(kernels, upload(kernels, a, n), { rank: 10, seed: 5, onProgress: (f) => heard.push(f) });
    assertEquals(heard.toSorted((x, y) => x - y), heard);
    assertEquals(heard.at(-1), 1);
    results.push(vectorsOf(kernels, fit, n));
  }
  assertEquals(results[0], results[1]);
});

Deno.test("fillGaussian has mean 0, variance 1 and depends on its seed", () => {
  const x = gaussian(100_001, 1);
  const mean = x.reduce((a, b) => a + b) / x.length;
  const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length;
  assertAlmostEquals(mean, 0, 0.02);
  assertAlmostEquals(variance, 1, 0.02);
  assert(gaussian(3, 1)[0] !== gaussian(3, 2)[0]);
  const u = uniformGenerator(9);
  for (let i = 0; i < 1000; i++) assert(((v) => v >= 0 && v < 1)(u()));
});
