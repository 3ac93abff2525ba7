// Huffman-coded blocks: decoding, and products with weights straight from the codes. No imports, no allocation: the host
// (src/backend/wasm/huffman_kernels.ts) places all data from heapBase on and passes pointers. Tables have been checked by
// the host; behind the codes it leaves room that may be read.
export { decode } from "./huffman/decode";
export { dots } from "./huffman/dots";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
