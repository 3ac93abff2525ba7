/**
 * Steps by rate: what the components' Gaussian rate–distortion function says.
 *
 * @module
 */
import { nearestS, stepOf } from "../../stages/quantize/trellis/step.ts";

/** Mean squared error of a coefficient in squared steps at the usual λ. */
export const STEP_NOISE = 0.25;

/** The `s` of the step at which the components' Gaussian rate is `bits` a token. */
export function stepFor(variance: ArrayLike<number>, bits: number): number {
  const values = Array.from(variance).filter((value) => value > 0);
  const rate = (s: number) => {
    const noise = STEP_NOISE * stepOf(s) ** 2;
    return values.reduce((sum, value) => sum + Math.max(0, 0.5 * Math.log2(value / noise)), 0);
  };
  let low = nearestS(Math.sqrt(values[0]) * 16);
  let high = nearestS(Math.sqrt(values[values.length - 1]) / 16);
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (rate(middle) < bits) low = middle;
    else high = middle;
  }
  return high;
}
