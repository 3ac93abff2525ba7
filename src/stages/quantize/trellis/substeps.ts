/**
 * Coefficients in sixteenths of a step, the trellis coder's input.
 *
 * @module
 */
import { KvzUnsupportedError } from "../../../errors.ts";
import { MAX_TOKEN_SUM } from "../../transform/integer_basis.ts";
import { MAX_INPUT, SUBSTEPS } from "./cost.ts";
import { MAX_S } from "./side.ts";
import { stepOf } from "./step.ts";

/** Largest sum of a token's magnitudes in these units, well below what decoders take in quarters. */
const MAX_SUM = 0.9 * MAX_TOKEN_SUM * SUBSTEPS / 4;

/**
 * float32 [tokens][components] → integers [components][tokens], rounded to nearest even. Where a coefficient or a token
 * would be too large the step is doubled until none is; the `s` in use is returned.
 *
 * @throws {RangeError} when a coefficient is not finite.
 * @throws {KvzUnsupportedError} when one is so large that no step is coarse enough, from about 2.7 · 10^13 on.
 */
export function toSubsteps(
  coefficients: Float32Array,
  components: number,
  tokens: number,
  wanted: number,
): { readonly y: Int32Array; readonly s: number } {
  let [largest, largestSum] = [0, 0];
  for (let t = 0, i = 0; t < tokens; t++) {
    let sum = 0;
    for (const end = i + components; i < end; i++) {
      const magnitude = Math.abs(coefficients[i]);
      largest = Math.max(largest, magnitude);
      sum += magnitude;
    }
    largestSum = Math.max(largestSum, sum);
  }
  const s = largeEnough(largest, largestSum, wanted);
  const scale = SUBSTEPS / stepOf(s);
  const y = new Int32Array(components * tokens);
  for (let t = 0; t < tokens; t++) {
    for (let c = 0; c < components; c++) y[c * tokens + t] = roundToEven(coefficients[t * components + c] * scale);
  }
  return { y, s };
}

/**
 * The step at which coefficients fit: the wanted one, doubled as often as it takes.
 *
 * @param largest largest magnitude of a coefficient
 * @param largestSum largest sum of a token's magnitudes
 * @throws what {@linkcode toSubsteps} throws
 */
export function largeEnough(largest: number, largestSum: number, wanted: number): number {
  if (!Number.isFinite(largest)) throw new RangeError("Cannot quantize: a coefficient is not finite");
  let s = wanted;
  while (Math.max(largest / MAX_INPUT, largestSum / MAX_SUM) * SUBSTEPS / stepOf(s) > 1) s -= 60;
  if (s < -MAX_S) {
    throw new KvzUnsupportedError(
      `Cannot quantize: a coefficient is ${largest}, too large for the coarsest step, 2^32`,
    );
  }
  return s;
}

function roundToEven(x: number): number {
  const rounded = Math.round(x);
  return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
