/**
 * The least bits that Gaussian coefficients would take at the error that a coder made of them.
 *
 * @module
 */
import { stepOf } from "../../src/stages/quantize/trellis/step.ts";
import type { Chunk, Coded } from "./coders.ts";

/** Sum over the components of their mean squares, and of the mean squares of their errors. */
function spreads(chunks: readonly Chunk[], coded: Coded, components: number, s: number) {
  const variance = new Float64Array(components);
  let error = 0;
  let tokens = 0;
  for (const [i, { tokens: n, coefficients }] of chunks.entries()) {
    for (let t = 0; t < n; t++) {
      for (let c = 0; c < components; c++) {
        const z = coefficients[t * components + c];
        variance[c] += z * z;
        error += (z - coded.quarters[i][c * n + t] * stepOf(s) / 4) ** 2;
      }
    }
    tokens += n;
  }
  return { variance: variance.map((sum) => sum / tokens), error: error / tokens, tokens };
}

/**
 * Bytes of the rate–distortion function of independent Gaussians (reverse water-filling; Cover and Thomas, 10.3.3) with the
 * components' spreads in this cache, at the coder's total error. Prediction from other tokens can go below it.
 */
export function gaussianBytes(chunks: readonly Chunk[], coded: Coded, components: number, s: number): number {
  const { variance, error, tokens } = spreads(chunks, coded, components, s);
  let [low, high] = [0, variance.reduce((a, b) => Math.max(a, b), 0)];
  for (let i = 0; i < 100; i++) {
    const level = (low + high) / 2;
    if (variance.reduce((sum, v) => sum + Math.min(level, v), 0) < error) low = level;
    else high = level;
  }
  return tokens * variance.reduce((sum, v) => sum + (v > high ? Math.log2(v / high) / 2 : 0), 0) / 8;
}
