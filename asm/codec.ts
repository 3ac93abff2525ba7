// The codec's kernels, one file each. No imports, no allocation: the host (src/backend/wasm/) places all data from
// heapBase on and passes pointers; 0 is null. Sizes are checked by the host.
export { tileBasis } from "./codec/basis";
export { dequantize } from "./codec/dequantize";
export { decodeFp8, encodeFp8 } from "./codec/fp8";
export { gather } from "./codec/gather";
export { gemmScratchBytes } from "./codec/gemm";
export { pack, unpack } from "./codec/pack";
export { project } from "./codec/project";
export { quantize } from "./codec/quantize";
export { reconstruct } from "./codec/reconstruct";
export { scatter } from "./codec/scatter";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}

/** The build: 0 = base, 1 = simd, 2 = relaxed. */
export function buildId(): i32 {
  if (ASC_FEATURE_RELAXED_SIMD) return 2;
  return ASC_FEATURE_SIMD ? 1 : 0;
}
