/**
 * FP8 E4M3 (OCP 8-bit Floating Point Specification 1.0, "FN" variant): sign, 4 exponent bits with bias 7, 3 fraction
 * bits; no infinities, NaN is 0x7f and 0xff, largest magnitude 448.
 *
 * @module
 */
import { powerOfTwo } from "../../cache/power.ts";

/** The value of an E4M3 code. */
export function e4m3ToNumber(code: number): number {
  const sign = code & 0x80 ? -1 : 1;
  const exponent = (code >> 3) & 15;
  const fraction = code & 7;
  if (exponent === 15 && fraction === 7) return NaN;
  if (exponent === 0) return sign * fraction * 2 ** -9;
  return sign * (8 + fraction) * powerOfTwo(exponent - 10);
}

/** The E4M3 code nearest to a float32 value, ties to even, saturating at ±448; NaN gives NaN with the sign lost. */
export function numberToE4m3(value: number): number {
  if (Number.isNaN(value)) return 0x7f;
  const sign = value < 0 || Object.is(value, -0) ? 0x80 : 0;
  const magnitude = Math.min(Math.abs(value), 448);
  // The exponent of the result's binade, no less than that of the subnormals.
  let exponent = -6;
  let unit = 2 ** -9;
  for (; magnitude >= 16 * unit; unit *= 2) exponent++;
  const units = roundTiesEven(magnitude / unit);
  // units = 8 … 16 in a normal binade; 16 carries into the next, as the sum below does by itself.
  if (exponent === -6 && units < 8) return sign | units;
  return sign | Math.min(((exponent + 6) << 3) + units, 0x7e);
}

/** The nearest integer, halves to even. */
export function roundTiesEven(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}
