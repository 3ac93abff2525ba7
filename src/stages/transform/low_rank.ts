/**
 * The best approximation of a matrix by one of given rank: its truncated singular value decomposition (Eckart and Young
 * 1936), by the eigenvectors of the smaller of XᵀX and XXᵀ.
 *
 * @module
 */
import type { CalibrateKernels } from "../../backend/wasm/calibrate_kernels.ts";
import { exactSvd, type PrincipalComponents, randomizedSvd, type SymmetricMatrix } from "../../profile/svd.ts";

/** Factors of X ≈ leftᵀ · right. */
export interface LowRank {
  /** U·S: [rank][rows], row k the scores along direction k. */
  readonly left: Float64Array;
  /** Vᵀ: [rank][columns], orthonormal rows; those beyond the matrix's rank are zero, as their scores are. */
  readonly right: Float64Array;
}

/** From this share of the dimensions on all eigenvectors are computed. */
const EXACT_SHARE = 0.25;

/**
 * Factors of x [rows][columns], rank at most the smaller of the two.
 *
 * @throws {KvzLimitError} when the kernels' memory does not hold it.
 */
export function lowRank(
  kernels: CalibrateKernels,
  x: Float32Array,
  rows: number,
  columns: number,
  rank: number,
): LowRank {
  const mark = kernels.mark();
  try {
    return factors(kernels, x, rows, columns, rank);
  } finally {
    kernels.release(mark);
  }
}

function factors(
  kernels: CalibrateKernels,
  x: Float32Array,
  rows: number,
  columns: number,
  rank: number,
): LowRank {
  const left = new Float64Array(rank * rows);
  const right = new Float64Array(rank * columns);
  const { exports } = kernels;
  const a = kernels.alloc(rows * columns * 8);
  kernels.f64(a, rows * columns).set(x);
  const scratch = kernels.alloc(exports.gemmScratchBytes());
  const wide = columns > rows;
  const n = Math.min(rows, columns);
  const k = Math.max(rows, columns);
  const matrix: SymmetricMatrix = { address: kernels.alloc(n * n * 8), n, stride: n };
  // Strides of the vectors whose inner products are taken, of the rows where there are fewer of them, else of the columns.
  const [across, along] = wide ? [columns, 1] : [1, columns];
  exports.gemm(n, n, k, a, across, along, a, along, across, matrix.address, n, 0, scratch);
  if (kernels.f64(matrix.address, n * n).every((value) => value === 0)) return { left, right };
  const found: PrincipalComponents = rank >= EXACT_SHARE * n
    ? exactSvd(kernels, matrix, rank)
    : randomizedSvd(kernels, matrix, { rank });
  const count = found.values.length;
  // Eigenvectors times the matrix: the other side, as long as the singular values.
  const other = kernels.alloc(count * k * 8);
  exports.gemm(count, k, n, found.vectors, n, 1, a, across, along, other, k, 0, scratch);
  const vectors = kernels.f64(found.vectors, count * n);
  const products = kernels.f64(other, count * k);
  if (!wide) {
    right.set(vectors);
    left.set(products);
    return { left, right };
  }
  for (let i = 0; i < count; i++) {
    let squares = 0;
    for (let j = 0; j < k; j++) squares += products[i * k + j] * products[i * k + j];
    const length = Math.sqrt(squares);
    for (let j = 0; j < k; j++) right[i * k + j] = length === 0 ? 0 : products[i * k + j] / length;
    for (let j = 0; j < n; j++) left[i * n + j] = vectors[i * n + j] * length;
  }
  return { left, right };
}
