// Cholesky factorization and the triangular solve that make the rows of a matrix orthonormal (CholeskyQR).
import { axpy, dot, scale } from "./lanes";
import { gemm, SUBTRACT } from "./gemm";

const NB: usize = 96;
/** Columns that a triangular solve works on at a time: 96 rows of 128 columns are 96 KiB. */
const STRIP: usize = 128;

/**
 * Factors the symmetric a [n][n] (row stride ld, lower triangle read) into L·Lᵀ, L in the lower triangle. Returns −1,
 * or the row whose pivot is not above `tolerance` times its diagonal: the matrix is not positive definite in float64.
 */
export function cholesky(a: usize, n: usize, ld: usize, tolerance: f64, scratch: usize): i32 {
  for (let j0: usize = 0; j0 < n; j0 += NB) {
    const jb = min(NB, n - j0);
    const block = a + (j0 * ld + j0) * 8;
    // The diagonal before the update, to judge the pivots by.
    for (let j: usize = 0; j < jb; j++) store<f64>(scratch + j * 8, load<f64>(block + j * (ld + 1) * 8));
    gemm(n - j0, jb, j0, a + j0 * ld * 8, ld, 1, a + j0 * ld * 8, 1, ld, block, ld, SUBTRACT, scratch + NB * 8);
    for (let i: usize = 0; i < n - j0; i++) {
      const row = block + i * ld * 8;
      for (let j: usize = 0; j < min(i, jb); j++) {
        const other = block + j * ld * 8;
        store<f64>(row + j * 8, (load<f64>(row + j * 8) - dot(row, other, j)) / load<f64>(other + j * 8));
      }
      if (i < jb) {
        const pivot = load<f64>(row + i * 8) - dot(row, row, i);
        if (!(pivot > tolerance * load<f64>(scratch + i * 8))) return <i32>(j0 + i);
        store<f64>(row + i * 8, sqrt(pivot));
      }
    }
  }
  return -1;
}

/** Bytes of scratch memory that cholesky and solveLower need besides gemm's. */
export function choleskyScratchBytes(): usize {
  return NB * 8;
}

/** y [n][columns] ← L⁻¹ · y, row stride ldy; rows [begin, end), all rows before `begin` being done. */
export function solveLower(
  l: usize,
  ld: usize,
  y: usize,
  columns: usize,
  ldy: usize,
  begin: usize,
  end: usize,
  scratch: usize,
): void {
  for (let i0 = begin; i0 < end; i0 += NB) {
    const i1 = min(i0 + NB, end);
    const rows = y + i0 * ldy * 8;
    gemm(i1 - i0, columns, i0, l + i0 * ld * 8, ld, 1, y, ldy, 1, rows, ldy, SUBTRACT, scratch);
    for (let c: usize = 0; c < columns; c += STRIP) {
      const width = min(STRIP, columns - c);
      for (let i = i0; i < i1; i++) {
        const row = y + (i * ldy + c) * 8;
        for (let k = i0; k < i; k++) axpy(-load<f64>(l + (i * ld + k) * 8), y + (k * ldy + c) * 8, row, width);
        scale(1 / load<f64>(l + i * (ld + 1) * 8), row, width);
      }
    }
  }
}

/**
 * Makes rows [begin, end) of y [n][columns] orthonormal to all rows before them, by classical Gram–Schmidt done twice
 * ("twice is enough", Giraud et al. 2005). A row that vanishes is left as zeros; returns the first such row, or −1.
 */
export function orthogonalizeRows(y: usize, columns: usize, ldy: usize, begin: usize, end: usize, work: usize): i32 {
  for (let i = begin; i < end; i++) {
    const row = y + i * ldy * 8;
    const before = dot(row, row, columns);
    for (let pass = 0; pass < 2; pass++) {
      for (let k: usize = 0; k < i; k++) store<f64>(work + k * 8, dot(row, y + k * ldy * 8, columns));
      for (let k: usize = 0; k < i; k++) axpy(-load<f64>(work + k * 8), y + k * ldy * 8, row, columns);
    }
    const after = dot(row, row, columns);
    if (!(after > 1e-24 * before)) {
      memory.fill(row, 0, columns * 8);
      return <i32>i;
    }
    scale(1 / sqrt(after), row, columns);
  }
  return -1;
}
