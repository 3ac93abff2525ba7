// Calibration kernels: Gram matrix, randomized and exact eigendecomposition, quantization errors. No imports, no
// allocation: pointers come from the host (src/backend/wasm/calibrate_kernels.ts), which places data from heapBase on.
export { gemm, gemmScratchBytes } from "./calibrate/gemm";
export { gramDepth, gramStride, gramUpdate, mirror, packRows, rankOneUpdate } from "./calibrate/gram";
export { cholesky, choleskyScratchBytes, orthogonalizeRows, solveLower } from "./calibrate/cholesky";
export { applyRotations, formRows, tridiagonalize } from "./calibrate/eigen";
export { errorTableRows, errorTableScratchBytes } from "./calibrate/error_table";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
