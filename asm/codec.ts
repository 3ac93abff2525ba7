// The codec's kernels. No imports, no allocation: pointers come from the host (src/backend/wasm/wasm_backend.ts), which
// manages the memory from heapBase on.
export { bareTiles, basisBytes, gemmScratchBytes, packBasis, project, reconstruct } from "./codec/gemm";
export { gather, scatter } from "./codec/layout";
export { pack, unpack } from "./codec/pack";
export { decodeFp8, dequantize, encodeFp8, quantize } from "./codec/quantize";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
