/**
 * Principal components from the centred Gram matrix C = Σ (x − µ)(x − µ)ᵀ: the right singular vectors of the centred
 * data are its eigenvectors, the squared singular values its eigenvalues.
 *
 * @module
 */
import { type CalibrateKernels, GEMM } from "../backend/wasm/calibrate_kernels.ts";
import { type Progress, symmetricEigen } from "./eigen.ts";
import { orthonormalize, type OrthoScratch, orthoScratch } from "./orthonormalize.ts";
import { fillGaussian } from "./random.ts";

/** A symmetric matrix in the kernels' memory, both triangles, float64. */
export interface SymmetricMatrix {
  readonly address: number;
  readonly n: number;
  /** Row stride in elements. */
  readonly stride: number;
}

/** Leading eigenpairs. */
export interface PrincipalComponents {
  /** Eigenvalues in descending order, all positive: [rank]. */
  readonly values: Float64Array;
  /** Address of the eigenvectors, float64 [rank][n], orthonormal rows. */
  readonly vectors: number;
}

/** Options of {@linkcode randomizedSvd}. */
export interface RandomizedOptions {
  /** Components wanted. */
  readonly rank: number;
  /** Multiplications by the matrix, each followed by orthonormalization. Default 8, as in the KVTC paper. */
  readonly iterations?: number;
  /** Vectors carried beyond the rank. Default 10. */
  readonly oversampling?: number;
  readonly seed?: number;
  readonly onProgress?: Progress;
}

/** Eigenvalues below this share of the largest are rounding noise of a matrix that has lower rank. */
const NOISE = 1e-13;
/** Rows of a product computed by one kernel call, between two reports. */
const ROWS_PER_CALL = 480;

/**
 * Randomized subspace iteration (Halko, Martinsson and Tropp 2011, Algorithm 4.4 applied to C, 5.3 for the last step):
 * Q ← orth(C·Q) from a Gaussian start, then the eigenvectors of C within the span of Q (Rayleigh–Ritz).
 *
 * Returns fewer components than `rank` where the matrix has lower rank. The result stays in the kernels' memory above
 * the caller's mark; scratch memory is reused below it.
 */
export function randomizedSvd(
  kernels: CalibrateKernels,
  matrix: SymmetricMatrix,
  options: RandomizedOptions,
): PrincipalComponents {
  const { rank, iterations = 8, oversampling = 10, seed = 0, onProgress = () => {} } = options;
  const { n } = matrix;
  const width = Math.min(n, rank + oversampling);
  const vectors = kernels.alloc(Math.min(rank, n) * n * 8);
  const mark = kernels.mark();
  let q = kernels.alloc(width * n * 8);
  let y = kernels.alloc(width * n * 8);
  const scratch = orthoScratch(kernels, width);
  fillGaussian(kernels.f64(q, width * n), seed);

  let rows = width;
  // A product and an orthonormalization each count 1; the Rayleigh–Ritz step counts 3.
  const total = 2 * iterations + 3;
  for (let i = 0; i < iterations; i++) {
    multiply(kernels, matrix, q, rows, y, scratch, (f) => onProgress((2 * i + f) / total));
    // Between iterations only the span matters; before Rayleigh–Ritz the rows have to be orthonormal.
    rows = orthonormalize(kernels, y, rows, n, i === iterations - 1 ? 2 : 1, scratch);
    [q, y] = [y, q];
    onProgress((2 * i + 2) / total);
  }
  const offset = 2 * iterations / total;
  const values = rayleighRitz(kernels, matrix, { q, y, rows, rank, vectors, scratch }, (f) => {
    onProgress(offset + f * 3 / total);
  });
  kernels.release(mark);
  return { values, vectors };
}

/** y [rows][n] = q [rows][n] · C. */
function multiply(
  kernels: CalibrateKernels,
  { address, n, stride }: SymmetricMatrix,
  q: number,
  rows: number,
  y: number,
  { scratch }: OrthoScratch,
  onProgress: Progress,
): void {
  for (let i = 0; i < rows; i += ROWS_PER_CALL) {
    const m = Math.min(ROWS_PER_CALL, rows - i);
    kernels.exports.gemm(m, n, n, q + i * n * 8, n, 1, address, stride, 1, y + i * n * 8, n, 0, scratch);
    onProgress((i + m) / rows);
  }
}

/** Eigenpairs of C within the span of the orthonormal rows of q; the leading ones go to `vectors`. */
function rayleighRitz(
  kernels: CalibrateKernels,
  matrix: SymmetricMatrix,
  space: { q: number; y: number; rows: number; rank: number; vectors: number; scratch: OrthoScratch },
  onProgress: Progress,
): Float64Array {
  const { exports } = kernels;
  const { n } = matrix;
  const { q, y, rows, rank, vectors, scratch } = space;
  multiply(kernels, matrix, q, rows, y, scratch, (f) => onProgress(f / 3));
  exports.gemm(rows, rows, n, q, n, 1, y, 1, n, scratch.gram, rows, GEMM.upper, scratch.scratch);
  exports.mirror(scratch.gram, rows, rows);
  const small = kernels.alloc(rows * rows * 8);
  const all = symmetricEigen(kernels, scratch.gram, rows, small, (f) => onProgress((1 + f) / 3));
  const values = significant(all, rank);
  exports.gemm(values.length, n, rows, small, rows, 1, q, n, 1, vectors, n, 0, scratch.scratch);
  fixSigns(kernels.f64(vectors, values.length * n), n);
  onProgress(1);
  return values;
}

/** The leading `rank` eigenvalues without those that are noise. */
function significant(values: Float64Array, rank: number): Float64Array {
  let count = 0;
  while (count < Math.min(rank, values.length) && values[count] > NOISE * values[0]) count++;
  return values.slice(0, count);
}

/** Makes the largest element of every row positive, so that equal data give equal bases whatever the solver. */
function fixSigns(rows: Float64Array, n: number): void {
  for (let at = 0; at < rows.length; at += n) {
    let peak = 0;
    for (let i = at; i < at + n; i++) if (Math.abs(rows[i]) > Math.abs(peak)) peak = rows[i];
    if (peak < 0) { for (let i = at; i < at + n; i++) rows[i] = -rows[i]; }
  }
}

/**
 * All eigenpairs, the leading `rank` of them returned. Time grows with n³ and memory is 16·n² bytes beside the matrix:
 * meant for n up to about 2000 (seconds); 5760 takes minutes.
 */
export function exactSvd(
  kernels: CalibrateKernels,
  matrix: SymmetricMatrix,
  rank: number,
  onProgress: Progress = () => {},
): PrincipalComponents {
  const { address, n, stride } = matrix;
  const vectors = kernels.alloc(n * n * 8);
  const mark = kernels.mark();
  const copy = kernels.alloc(n * n * 8);
  for (let i = 0; i < n; i++) {
    kernels.f64(copy + i * n * 8, n).set(kernels.f64(address + i * stride * 8, n));
  }
  const values = significant(symmetricEigen(kernels, copy, n, vectors, onProgress), rank);
  kernels.release(mark);
  fixSigns(kernels.f64(vectors, values.length * n), n);
  return { values, vectors };
}
