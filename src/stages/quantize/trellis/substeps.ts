/**
 * Coefficients in sixteenths of a step, the trellis coder's input.
 *
 * @module
 */
import { MAX_INPUT, SUBSTEPS } from "./cost.ts";
import { stepOf } from "./step.ts";

/**
 * float32 [tokens][components] → integers [components][tokens], rounded to nearest even. Where a coefficient would be
 * too large the step is doubled until none is; the `s` in use is returned.
 *
 * @throws {RangeError} when a coefficient is not finite.
 */
export function toSubsteps(
  coefficients: Float32Array,
  components: number,
  tokens: number,
  wanted: number,
): { readonly y: Int32Array; readonly s: number } {
  let largest = 0;
  for (const value of coefficients) largest = Math.max(largest, Math.abs(value));
  if (!Number.isFinite(largest)) throw new RangeError("Cannot quantize: a coefficient is not finite");
  let s = wanted;
  while (largest * SUBSTEPS / stepOf(s) > MAX_INPUT) s -= 60;
  const scale = SUBSTEPS / stepOf(s);
  const y = new Int32Array(components * tokens);
  for (let t = 0; t < tokens; t++) {
    for (let c = 0; c < components; c++) y[c * tokens + t] = roundToEven(coefficients[t * components + c] * scale);
  }
  return { y, s };
}

function roundToEven(x: number): number {
  const rounded = Math.round(x);
  return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
