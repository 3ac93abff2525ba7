/**
 * Cosine and sine with the same bits on every engine: ECMAScript leaves Math.cos and Math.sin to the implementation, but
 * +, −, × and rounding are exact, and nothing else is used here.
 *
 * Argument reduction by parts of π/2 (Cody and Waite 1980, with an error term), polynomials of fdlibm's kernels
 * (Sun Microsystems 1993, as FreeBSD's msun has them).
 *
 * @module
 */

/** π/2 in parts of 22 bits, whose products with quadrants below 2^31 are exact, and a rest. */
const PARTS = [1.570796012878418, 3.139164164167596e-7, 6.223371969669989e-14, 2.0222662487959506e-21];

/** Angles from here on are refused: quadrants would leave 31 bits. */
const LIMIT = 2147483648;

/**
 * [cos, sin] of an angle in radians: within one unit in the last place where the result is above 2^-34, and within
 * 2^-86 elsewhere.
 *
 * @throws {RangeError} The angle is not below 2^31 in magnitude.
 */
export function cosSin(angle: number): [cos: number, sin: number] {
  const x = Math.abs(angle);
  if (!(x < LIMIT)) throw new RangeError(`Cannot turn by an angle of ${angle} rad: expected less than 2^31`);
  const quadrant = Math.round(x * (2 / Math.PI));
  // The first difference is exact; of the others the rounding errors are kept.
  const a = x - quadrant * PARTS[0];
  const second = quadrant * PARTS[1];
  const b = a - second;
  const third = quadrant * PARTS[2];
  const c = b - third;
  const errors = restOf(a, second, b) + restOf(b, third, c) - quadrant * PARTS[3];
  const r = c + errors;
  const tail = c - r + errors;
  const [cos, sin] = [cosKernel(r, tail), sinKernel(r, tail)];
  const turned = quadrant & 1 ? [-sin, cos] : [cos, sin];
  const sign = quadrant & 2 ? -1 : 1;
  return [sign * turned[0], (angle < 0 ? -sign : sign) * turned[1]];
}

/** What rounding took from the difference a − b (Knuth's two-sum). */
function restOf(a: number, b: number, difference: number): number {
  const back = difference - a;
  return a - (difference - back) - (b + back);
}

/** cos(x + tail) for |x| ≤ π/4. */
function cosKernel(x: number, tail: number): number {
  const z = x * x;
  const w = z * z;
  const r = z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 + z * 2.48015872894767294178e-05)) +
    w * w * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11));
  const half = 0.5 * z;
  const high = 1 - half;
  return high + (1 - high - half + (z * r - x * tail));
}

/** sin(x + tail) for |x| ≤ π/4. */
function sinKernel(x: number, tail: number): number {
  const z = x * x;
  const r = 8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 + z * 2.75573137070700676789e-06) +
    z * z * z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10);
  const v = z * x;
  return x - (z * (0.5 * tail - v * r) - tail + v * 1.66666666666666324348e-01);
}
