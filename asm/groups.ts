// Rows of a cache in few bits: the Walsh–Hadamard transform, uniform quantization of groups, ggml's blocks. All in f32 with
// one rounding an operation, so that every build and the reference (src/stages/quantize/uniform.ts, ggml_blocks.ts) give the same
// bits. No imports, no allocation: the host (src/backend/wasm/group_kernels.ts) places all data from heapBase on.
export { hadamard } from "./groups/hadamard";
export { dequantizeGroups, quantizeGroups } from "./groups/uniform";
export { dequantizeQ4, dequantizeQ8, quantizeQ4, quantizeQ8 } from "./groups/ggml";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
