// reconstruct: coefficients → f32 feature rows, all features or a range of them.
import { EDGE, panelOfComponents, TILE_BYTES } from "./basis";
import { KC, MC, multiplyPanel, NR, packRows, panelOf } from "./gemm";

/**
 * x[t][f − begin] = Σ_c coefficients[t][c] · basis[c][f], begin ≤ f < end. Row strides: components and end − begin
 * rounded up to 8; the padding of the result is cleared. basis: tiles. scratch: gemmScratchBytes().
 */
export function reconstruct(
  coefficients: usize,
  tokens: usize,
  basis: usize,
  components: usize,
  features: usize,
  begin: usize,
  end: usize,
  x: usize,
  scratch: usize,
): void {
  const featureBlocks = (features + EDGE - 1) / EDGE;
  const inStride = (components + EDGE - 1) / EDGE * EDGE * 4;
  const outStride = (end - begin + EDGE - 1) / EDGE * EDGE * 4;
  if (components == 0) memory.fill(x, 0, tokens * outStride);
  for (let t: usize = 0; t < tokens; t += MC) {
    const rows = min(MC, tokens - t);
    const out = x + t * outStride;
    for (let k: usize = 0; k < components; k += KC) {
      const depth = min(KC, components - k);
      const tiles = (depth + EDGE - 1) / EDGE;
      packRows(coefficients + t * inStride + k * 4, inStride, rows, depth, tiles * EDGE, scratch);
      // Panels keep the tiles' grid; those at the ends of the range are used in part.
      for (let f = begin / EDGE * EDGE; f < end; f += EDGE) {
        const tile = basis + (k / EDGE * featureBlocks + f / EDGE) * TILE_BYTES;
        panelOfComponents(tile, tiles, featureBlocks * TILE_BYTES, panelOf(scratch));
        const first = f < begin ? begin - f : 0;
        const to = out + (f - begin) * 4;
        multiplyPanel(scratch, rows, tiles * EDGE, to, outStride, first, min(NR, end - f), k > 0);
      }
    }
    const padding = outStride - (end - begin) * 4;
    for (let i: usize = 0; i < rows; i++) memory.fill(out + i * outStride + (end - begin) * 4, 0, padding);
  }
}
