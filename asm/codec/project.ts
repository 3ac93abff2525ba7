// project: f32 feature rows → coefficients, one inner product with every basis row.
import { EDGE, panelOfFeatures, TILE_BYTES } from "./basis";
import { KC, MC, multiplyPanel, NR, packRows, panelOf } from "./gemm";

/**
 * coefficients[t][c] = Σ_f x[t][f] · basis[c][f]. Row strides: features and components rounded up to 8; the padding of
 * the result is cleared. basis: tiles. scratch: gemmScratchBytes().
 */
export function project(
  x: usize,
  tokens: usize,
  basis: usize,
  components: usize,
  features: usize,
  coefficients: usize,
  scratch: usize,
): void {
  const featureBlocks = (features + EDGE - 1) / EDGE;
  const componentBlocks = (components + EDGE - 1) / EDGE;
  const inStride = featureBlocks * EDGE * 4;
  const outStride = componentBlocks * EDGE * 4;
  if (features == 0) memory.fill(coefficients, 0, tokens * outStride);
  for (let t: usize = 0; t < tokens; t += MC) {
    const rows = min(MC, tokens - t);
    const out = coefficients + t * outStride;
    for (let k: usize = 0; k < features; k += KC) {
      const depth = min(KC, features - k);
      const tiles = (depth + EDGE - 1) / EDGE;
      packRows(x + t * inStride + k * 4, inStride, rows, depth, tiles * EDGE, scratch);
      for (let c: usize = 0; c < componentBlocks; c++) {
        panelOfFeatures(basis + (c * featureBlocks + k / EDGE) * TILE_BYTES, tiles, panelOf(scratch));
        const columns = min(NR, components - c * NR);
        multiplyPanel(scratch, rows, tiles * EDGE, out + c * NR * 4, outStride, 0, columns, k > 0);
      }
    }
    const padding = outStride - components * 4;
    for (let i: usize = 0; i < rows; i++) memory.fill(out + i * outStride + components * 4, 0, padding);
  }
}
