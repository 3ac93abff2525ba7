// Integer reconstruction: an int7 basis times int16 levels, exact in int32, and the closing steps in f32. No imports, no
// allocation: the host (src/backend/wasm/integer_kernels.ts) places all data from heapBase on and passes pointers.
// Sizes, and that no sum leaves 32 bits, are checked by the host.
export { scatter } from "./codec/scatter";
export { setDots, tokensAtOnce } from "./integer/dots";
export { packLevels } from "./integer/levels";
export { multiply } from "./integer/multiply";
export { scaleRows } from "./integer/scale";
export { packBasis } from "./integer/tile";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
