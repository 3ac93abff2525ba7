// Dense layers of f32 in one order of rounding: every sum runs over the inputs from first to last, each product and each
// sum rounded by itself (no fused form), so that every build and the reference give the same bits. Rows lie in panels of
// eight, inputs outermost, between layers: a layer reads and writes them in one stride. No imports, no allocation: the
// host (src/stages/transform/dense_host.ts) places all data from heapBase on and passes pointers.
export { decodeLatents, encodeLatents } from "./dense/latents";
export { layer } from "./dense/layer";
export { fromPanels, toPanels } from "./dense/panels";
export { packWeights } from "./dense/weights";

/** First byte that the host may use. */
export function heapBase(): usize {
  return __heap_base;
}
