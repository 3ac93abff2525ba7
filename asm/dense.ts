// Products of f32 matrices in one order of rounding: every sum runs over k from first to last, each product and each sum
// rounded by itself (no fused form), so that every build and the reference give the same bits. No imports, no allocation:
// the host (src/backend/wasm/dense_kernels.ts) places all data from heapBase on and passes pointers.
export { multiply } from "./dense/multiply";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
