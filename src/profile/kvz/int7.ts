/**
 * Rounding a basis to 7-bit integers with one scale a feature, rows of weak components more coarsely: an error of a row
 * costs its variance.
 *
 * @module
 */
import { INT7_MAX } from "../../stages/transform/integer_basis.ts";
import { MULTIPLES } from "./basis_coding.ts";
import { STEP_NOISE } from "./rate.ts";

/** Share of the quantization noise of the finest step that rounding the basis may add. */
const NOISE_SHARE = 0.12;

/** An integer basis. */
export interface Int7Basis {
  /** [components][features]. */
  readonly basis: Int8Array;
  /** [features]. */
  readonly scales: Float32Array;
}

/**
 * Rounds `back` [components][features].
 *
 * @param weight diagonal of the sensitivity A², [features]: what a squared error of each feature costs
 * @param variance of the components in the weighted space
 * @param finestStep finest step that the basis shall serve
 */
export function roundBasis(
  back: Float64Array,
  features: number,
  weight: ArrayLike<number>,
  variance: ArrayLike<number>,
  finestStep: number,
): Int7Basis {
  const components = variance.length;
  const scales = new Float32Array(features);
  for (let c = 0; c < components; c++) {
    for (let f = 0; f < features; f++) {
      scales[f] = Math.max(scales[f], Math.abs(back[c * features + f]) / INT7_MAX);
    }
  }
  // What rounding one row to whole units costs for a coefficient of 1.
  let unit = 0;
  for (let f = 0; f < features; f++) unit += weight[f] * scales[f] ** 2 / 12;
  const allowed = NOISE_SHARE * STEP_NOISE * finestStep ** 2;
  const basis = new Int8Array(components * features);
  for (let c = 0; c < components; c++) {
    const most = Math.sqrt(allowed / (unit * variance[c]));
    const multiple = [...MULTIPLES].reverse().find((m) => m <= most) ?? 1;
    const limit = Math.floor(INT7_MAX / multiple);
    for (let f = 0; f < features; f++) {
      if (scales[f] === 0) continue;
      const value = Math.round(back[c * features + f] / (scales[f] * multiple));
      basis[c * features + f] = multiple * Math.max(-limit, Math.min(limit, value));
    }
  }
  return { basis, scales };
}
