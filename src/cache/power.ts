/**
 * Powers and logarithms with the same bits on every engine: ECMAScript leaves Math.pow, Math.exp and Math.log to the
 * implementation. Here are only +, −, ×, ÷ of float64, which are exact, and whole numbers.
 *
 * @module
 */

/** One, in fixed point. */
const UNIT = 1n << 128n;
/** ln 2 = 2 artanh(1/3). */
const LN2 = twiceArtanh(UNIT / 3n);

/** 2 · artanh(s) in fixed point, for s well below one: 2 (s + s³/3 + s⁵/5 + …). */
function twiceArtanh(s: bigint): bigint {
  const square = s * s / UNIT;
  let sum = 0n;
  for (let k = 1n, term = 2n * s; term !== 0n; k += 2n, term = term * square / UNIT) sum += term / k;
  return sum;
}

/** 2^n for a whole number n. */
export function powerOfTwo(n: number): number {
  let power = 1;
  for (; n > 0; n--) power *= 2;
  for (; n < 0; n++) power /= 2;
  return power;
}

/** A positive number as x · 2^octaves with x between √½ and √2. */
function splitOctaves(x: number): [x: number, octaves: number] {
  let octaves = 0;
  for (; x > Math.SQRT2; x /= 2) octaves++;
  for (; x < Math.SQRT1_2; x *= 2) octaves--;
  return [x, octaves];
}

/**
 * base^(numerator / denominator), the float64 nearest to it but for ties within 2^-60.
 *
 * @throws {RangeError} The base is not a positive finite number, or the others are no whole numbers.
 */
export function power(base: number, numerator: number, denominator: number): number {
  if (!(base > 0 && base < Infinity)) {
    throw new RangeError(`Cannot raise ${base} to a power: expected a positive finite number`);
  }
  const [x, octaves] = splitOctaves(base);
  const m = BigInt(x * 2 ** 53) << 75n;
  const ln = twiceArtanh((m - UNIT) * UNIT / (m + UNIT)) + BigInt(octaves) * LN2;
  const exponent = ln * BigInt(numerator) / BigInt(denominator);
  const whole = exponent / LN2;
  const rest = exponent - whole * LN2;
  let sum = 0n;
  for (let k = 1n, term = UNIT; term !== 0n; term = term * rest / (UNIT * k), k++) sum += term;
  return Number(sum) / Number(UNIT) * powerOfTwo(Number(whole));
}

/**
 * The natural logarithm, within one unit in the last place: fdlibm's (Sun Microsystems 1993). Of 0, negative numbers,
 * infinity and NaN what Math.log gives.
 */
export function naturalLog(value: number): number {
  if (!(value > 0 && value < Infinity)) return Math.log(value);
  const [x, octaves] = splitOctaves(value);
  const f = x - 1;
  const s = f / (2 + f);
  const z = s * s;
  const w = z * z;
  const r = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01)) +
    z * (6.666666666666735130e-01 +
        w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  const half = 0.5 * f * f;
  // ln 2 in a part of few bits and a rest.
  const [high, low] = [6.93147180369123816490e-01, 1.90821492927058770002e-10];
  return octaves * high - (half - (s * (half + r) + octaves * low) - f);
}
