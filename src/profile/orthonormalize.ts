/**
 * Makes the rows of a tall matrix orthonormal: CholeskyQR, repeated (Yamamoto et al. 2015), with a shifted first pass
 * where the rows are too close to dependent (Fukaya et al. 2020), and Gram–Schmidt where they are dependent.
 *
 * @module
 */
import { type CalibrateKernels, GEMM } from "../backend/wasm/calibrate_kernels.ts";

/** A Cholesky pivot below this share of its diagonal has lost all its digits. */
const PIVOT_TOLERANCE = 1e-14;
/** Shifted passes before Gram–Schmidt takes over; each takes about eight decimal digits off the condition. */
const MAX_SHIFTED = 2;

/** Scratch memory of {@linkcode orthonormalize}, for reuse. */
export interface OrthoScratch {
  /** float64 [rows][rows]. */
  readonly gram: number;
  readonly scratch: number;
}

/** Takes the scratch memory for a number of rows. */
export function orthoScratch(kernels: CalibrateKernels, rows: number): OrthoScratch {
  const { exports } = kernels;
  return {
    gram: kernels.alloc(rows * rows * 8),
    scratch: kernels.alloc(exports.choleskyScratchBytes() + exports.gemmScratchBytes() + rows * 8),
  };
}

/**
 * Replaces y, float64 [rows][columns], by orthonormal rows that span the same space, in `passes` passes: one leaves
 * them orthonormal to about 2⁻⁵³ times the squared condition of y, the second to working precision.
 *
 * Returns the number of rows left. Rows that depend on others become directions of their rounding errors, orthonormal all
 * the same (Rayleigh–Ritz finds no variance there), or are removed where nothing is left of them; then others move up.
 */
export function orthonormalize(
  kernels: CalibrateKernels,
  y: number,
  rows: number,
  columns: number,
  passes: number,
  { gram, scratch }: OrthoScratch,
): number {
  const { exports } = kernels;
  const product = () => {
    exports.gemm(rows, rows, columns, y, columns, 1, y, 1, columns, gram, rows, GEMM.upper, scratch);
    exports.mirror(gram, rows, rows);
  };
  for (let pass = 0, shifted = 0; pass < passes;) {
    product();
    if (exports.cholesky(gram, rows, rows, PIVOT_TOLERANCE, scratch) >= 0) {
      if (++shifted > MAX_SHIFTED) return gramSchmidt(kernels, y, rows, columns, scratch);
      product();
      shiftDiagonal(kernels.f64(gram, rows * rows), rows, columns);
      if (exports.cholesky(gram, rows, rows, 0, scratch) >= 0) return gramSchmidt(kernels, y, rows, columns, scratch);
      // The shifted pass only improves the condition; it does not count.
    } else pass++;
    exports.solveLower(gram, rows, y, columns, columns, 0, rows, scratch);
  }
  return rows;
}

/** Adds 11 (mn + n (n + 1)) u ‖Y‖² to the diagonal, ‖Y‖² being bounded by the trace. */
function shiftDiagonal(gram: Float64Array, rows: number, columns: number): void {
  let trace = 0;
  for (let i = 0; i < rows; i++) trace += gram[i * (rows + 1)];
  const shift = 11 * (rows * columns + rows * (rows + 1)) * Number.EPSILON / 2 * trace / rows;
  for (let i = 0; i < rows; i++) gram[i * (rows + 1)] += shift;
}

function gramSchmidt(kernels: CalibrateKernels, y: number, rows: number, columns: number, work: number): number {
  const { exports } = kernels;
  let left = rows;
  for (let begin = 0; begin < left;) {
    const vanished = exports.orthogonalizeRows(y, columns, columns, begin, left, work);
    if (vanished < 0) break;
    // The last row takes the place of the one that depends on others.
    left--;
    kernels.f64(y, rows * columns).copyWithin(vanished * columns, left * columns, (left + 1) * columns);
    begin = vanished;
  }
  return left;
}
