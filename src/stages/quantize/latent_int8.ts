/**
 * int8 latents of KV-CAR (arXiv 2512.06727, Eq. 4): scale = 255 / (max − min), zp = −round(scale · min) − 128,
 * q = round(scale · x + zp), x̂ = (q − zp) / scale.
 *
 * The paper does not say over what min and max are taken: here over the latent of one token. They are stored as binary16,
 * min rounded down and max up, and scale and zp follow from them, so that encoder and decoder have the same. Where they are
 * equal all numbers are min.
 *
 * @module
 */
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";

/** Rows of int8 latents. */
export interface Int8Rows {
  /** q, two's complement, [rows][width]. */
  readonly codes: Uint8Array;
  /** Bits of min and max as binary16, [rows][2]. */
  readonly limits: Uint16Array;
}

/** scale and zp of a row. */
function factors(min: number, max: number): { scale: number; zp: number } {
  const scale = 255 / (max - min);
  return { scale, zp: -Math.round(scale * min) - 128 };
}

/** The next number of binary16 below (`up` false) or above. Infinite where there is none. */
function neighbour(bits: number, up: boolean): number {
  const negative = (bits & 0x8000) !== 0;
  if ((bits & 0x7fff) === 0) return up ? 1 : 0x8001;
  return negative === up ? bits - 1 : bits + 1;
}

/** Bits of the largest number of binary16 up to `value`, or the least from it on. */
function outward(value: number, up: boolean): number {
  const bits = numberToF16(value);
  const back = f16ToNumber(bits);
  return (up ? back < value : back > value) ? neighbour(bits, up) : bits;
}

/**
 * Quantizes a row.
 *
 * @param codes receives q, two's complement
 * @returns bits of min and max as binary16; not finite where a number is beyond 65504
 */
export function encodeLatent(row: Float32Array, codes: Uint8Array): [number, number] {
  let [least, most] = [Infinity, -Infinity];
  for (let i = 0; i < row.length; i++) {
    if (row[i] < least) least = row[i];
    if (row[i] > most) most = row[i];
  }
  const bits: [number, number] = [outward(least, false), outward(most, true)];
  const [min, max] = [f16ToNumber(bits[0]), f16ToNumber(bits[1])];
  if (min === max) {
    codes.fill(0x80);
    return bits;
  }
  const { scale, zp } = factors(min, max);
  for (let i = 0; i < row.length; i++) {
    // An integer for the engine as well, which is three times faster.
    const q = Math.round(scale * row[i] + zp) | 0;
    codes[i] = q < -128 ? -128 : q > 127 ? 127 : q;
  }
  return bits;
}

/** Restores a row from codes and the bits of min and max, finite and min ≤ max. */
export function decodeLatent(codes: Uint8Array, minBits: number, maxBits: number, row: Float32Array): void {
  const [min, max] = [f16ToNumber(minBits), f16ToNumber(maxBits)];
  if (min === max) {
    row.fill(min);
    return;
  }
  const { scale, zp } = factors(min, max);
  for (let i = 0; i < row.length; i++) row[i] = ((codes[i] << 24 >> 24) - zp) / scale;
}

/** Quantizes rows of `width` numbers: the definition of what kernels do. */
export function encodeLatents(rows: Float32Array, width: number): Int8Rows {
  const codes = new Uint8Array(rows.length);
  const limits = new Uint16Array(2 * rows.length / width);
  for (let at = 0, row = 0; at < rows.length; at += width, row++) {
    limits.set(encodeLatent(rows.subarray(at, at + width), codes.subarray(at, at + width)), 2 * row);
  }
  return { codes, limits };
}

/** Restores rows of `width` numbers; limits are finite and min ≤ max. */
export function decodeLatents({ codes, limits }: Int8Rows, width: number): Float32Array {
  const rows = new Float32Array(codes.length);
  for (let at = 0, row = 0; at < rows.length; at += width, row++) {
    const [min, max] = [limits[2 * row], limits[2 * row + 1]];
    decodeLatent(codes.subarray(at, at + width), min, max, rows.subarray(at, at + width));
  }
  return rows;
}
