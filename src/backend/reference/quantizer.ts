/**
 * The quantizer kernels of the reference backend, scalar and operation by operation as {@linkcode Backend.quantize}
 * defines them: every intermediate is rounded to float32, scales and shifts to binary16.
 *
 * @module
 */
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";
import type { QuantGroup } from "../backend.ts";
import { e4m3ToNumber, numberToE4m3, roundTiesEven } from "./e4m3.ts";

const { fround } = Math;

/** Codes with the binary16 bits of their shift and scale. */
export interface QuantizedGroup {
  readonly codes: Uint8Array;
  readonly shift: number;
  readonly scale: number;
}

/** Quantizes the coefficients of one token and group. */
export function quantizeGroup(values: ArrayLike<number>, type: QuantGroup["type"]): QuantizedGroup {
  return type === 3 ? quantizeFp8(values) : quantizeUniform(values, type === 1 ? 3 : 15);
}

/** int2 and int4: shift = minimum, scale = range ÷ levels. */
function quantizeUniform(values: ArrayLike<number>, levels: number): QuantizedGroup {
  let min = Infinity;
  let max = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (values[i] < min) min = values[i];
    if (values[i] > max) max = values[i];
  }
  // + 0: a minimum of −0 becomes 0, so that it does not matter which zero was met first.
  const shift = numberToF16(min + 0);
  const scale = numberToF16(fround(fround(max - min) / levels));
  const z = f16ToNumber(shift);
  const s = f16ToNumber(scale);
  const codes = new Uint8Array(values.length);
  if (s !== 0) {
    for (let i = 0; i < values.length; i++) {
      const q = roundTiesEven(fround(fround(values[i] - z) / s));
      codes[i] = Math.min(Math.max(q, 0), levels);
    }
  }
  return { codes, shift, scale };
}

/** fp8: scale = largest magnitude ÷ 448, no shift. */
export function quantizeFp8(values: ArrayLike<number>): QuantizedGroup {
  let amax = 0;
  for (let i = 0; i < values.length; i++) amax = Math.max(amax, Math.abs(values[i]));
  const scale = numberToF16(fround(amax / 448));
  const s = f16ToNumber(scale);
  const codes = new Uint8Array(values.length);
  if (s !== 0) { for (let i = 0; i < values.length; i++) codes[i] = numberToE4m3(fround(values[i] / s)); }
  return { codes, shift: 0, scale };
}

/** The float32 value of a code. */
export function dequantizeCode(code: number, type: QuantGroup["type"], shift: number, scale: number): number {
  const s = f16ToNumber(scale);
  if (type === 3) return fround(e4m3ToNumber(code) * s);
  return fround(fround(code * s) + f16ToNumber(shift));
}
