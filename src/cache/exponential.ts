/**
 * The exponential function with the same bits on every engine: ECMAScript leaves Math.exp to the implementation.
 *
 * @module
 */
import { powerOfTwo } from "./power.ts";

/** 2^k for k from −1100 to 0. */
const POWERS = Float64Array.from({ length: 1101 }, (_, k) => powerOfTwo(-k));
// ln 2 in a part of few bits and a rest.
const LN2_HIGH = 6.93147180369123816490e-01;
const LN2_LOW = 1.90821492927058770002e-10;
const LOG2_E = 1.44269504088896338700;

/**
 * e^x for x up to 0, within one unit in the last place where it is no subnormal: fdlibm's (Sun Microsystems 2004). 0 for −∞.
 *
 * @throws {RangeError} x is above 0 or NaN.
 */
export function expOfNegative(x: number): number {
  if (!(x <= 0)) throw new RangeError(`Cannot use ${x}: expected a number of at most 0`);
  if (x < -746) return 0;
  const k = Math.floor(0.5 - x * LOG2_E);
  const high = x + k * LN2_HIGH;
  const low = -k * LN2_LOW;
  const r = high - low;
  const t = r * r;
  const c = r - t * (1.66666666666666019037e-01 +
        t * (-2.77777777770155933842e-03 +
            t * (6.61375632143793436117e-05 + t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))));
  return (1 - (low - r * c / (2 - c) - high)) * POWERS[k];
}
