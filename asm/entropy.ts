// The entropy coder's kernels, one file each. No imports, no allocation: the host (src/backend/wasm/entropy_kernels.ts)
// places all data from heapBase on and passes pointers; 0 is null. Sizes and contexts are checked by the host.
export { tableIndices } from "./entropy/contexts";
export { decode } from "./entropy/decode";
export { encode } from "./entropy/encode";
export { escape, unescape } from "./entropy/escapes";
export { decodeTable, encodeTable } from "./entropy/tables";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
