// Prediction and trellis-coded quantization (src/stages/quantize/trellis/reference.ts defines every integer). No
// imports, no allocation: the host (src/backend/wasm/trellis_kernels.ts) places all data from heapBase on and passes
// the address of a table of pointers (trellis/work.ts). Sizes are checked by the host.
export { decodeTrellis } from "./trellis/decode";
export { quantizeTokens } from "./trellis/quantize";
export { predictTokens } from "./trellis/predict";
export { chooseEnergies, chooseOffsets, rememberStates } from "./trellis/rate";
export { transpose16, transpose32 } from "./trellis/transpose";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
