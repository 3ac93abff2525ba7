// The loops of the lossless coder, one file each; src/stages/lossless/reference.ts defines them. No imports, no
// allocation: the host (src/backend/wasm/lossless_kernels.ts) places all data from heapBase on and checks all sizes.
// The rANS coder is here too: symbols are coded where the loops leave them.
export { tableIndices } from "./entropy/contexts";
export { decode } from "./entropy/decode";
export { encode } from "./entropy/encode";
export { decodeTable, encodeTable } from "./entropy/tables";
export { join } from "./lossless/join";
export { measure } from "./lossless/measure";
export { count, denormalize, normalize } from "./lossless/normalize";
export { choose, model } from "./lossless/rows";
export { rebase, split, topExponent } from "./lossless/split";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
