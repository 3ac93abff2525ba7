/**
 * Asymmetric uniform quantization of groups: zero = the least value, scale = range ÷ (2^bits − 1), both in binary16 as
 * is the range, and codes through the rounded pair. A group is any run of values with a stride: a channel over some tokens (KIVI's keys), a
 * token's channels (KIVI's values), a whole head of a token (QuaRot).
 *
 * @module
 */
import { numberToF16 } from "../../cache/elements.ts";

/**
 * Quantizes values at, at + stride, … of `x` to codes at the same places; scale and zero go to `params[p]` and
 * `params[p + 1]` as binary16. |x − x̂| ≤ scale ÷ 2 but for the rounding of scale and zero. A group without range
 * restores its zero.
 *
 * @param halves Values of binary16 by their bits.
 * @param leastRange Range taken where the group has less (QuaRot's 10^-5); default: none.
 */
export function quantizeRun(
  x: Float32Array,
  at: number,
  stride: number,
  count: number,
  bits: number,
  codes: Uint8Array,
  params: Uint16Array,
  p: number,
  halves: Float32Array,
  leastRange = 0,
): void {
  const end = at + stride * count;
  let [low, high] = [x[at], x[at]];
  for (let i = at + stride; i < end; i += stride) {
    const value = x[i];
    if (value < low) low = value;
    else if (value > high) high = value;
  }
  const top = (1 << bits) - 1;
  // The authors' tensors are binary16, and so is the difference they divide.
  const scaleBits = numberToF16(Math.max(halves[numberToF16(high - low)], leastRange) / top);
  const zeroBits = numberToF16(low);
  params[p] = scaleBits;
  params[p + 1] = zeroBits;
  const zero = halves[zeroBits];
  const scale = halves[scaleBits];
  for (let i = at; i < end; i += stride) codes[i] = scale === 0 ? 0 : uniformCode((x[i] - zero) / scale, top);
}

/** Clamped to 0 … top, then rounded, halves to even (as torch's clamp and round). */
function uniformCode(value: number, top: number): number {
  if (!(value > 0)) return 0;
  if (value >= top) return top;
  const code = (value + 0.5) | 0;
  return code - value === 0.5 ? code & ~1 : code;
}

/** Inverse of {@linkcode quantizeRun}: x̂ = zero + scale · code, rounded to float32. */
export function dequantizeRun(
  codes: Uint8Array,
  at: number,
  stride: number,
  count: number,
  scale: number,
  zero: number,
  x: Float32Array,
): void {
  const end = at + stride * count;
  for (let i = at; i < end; i += stride) x[i] = zero + scale * codes[i];
}
