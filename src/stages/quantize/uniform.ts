/**
 * Asymmetric uniform quantization of groups: zero = the least value, scale = range ÷ (2^bits − 1), both in binary16 as
 * is the range, and codes through the rounded pair. A group is any run of values with a stride: a channel over some tokens
 * (KIVI's keys), a token's channels (KIVI's values), a whole head of a token (QuaRot), which may be rotated before.
 *
 * Every operation is rounded to float32, none is fused: this defines the kernels (group_kernels.ts).
 *
 * @module
 */
import { f16ToNumber, numberToF16 } from "../../cache/elements.ts";
import { hadamard } from "../transform/hadamard.ts";

const { fround } = Math;

/** Where groups lie in an array [outer][length][inner], and what becomes of them. */
export interface GroupShape {
  readonly outer: number;
  readonly length: number;
  readonly inner: number;
  /** Values of a group: neighbours along the middle axis. The last group of an axis may have less. */
  readonly group: number;
  /** Bits of a code, 1 to 8. */
  readonly bits: number;
  /** Range taken where a group has less (QuaRot's 10^-5); 0: none. */
  readonly leastRange: number;
  /** Whether rows are multiplied by the Walsh–Hadamard matrix before: `inner` is 1, `length` a power of two. */
  readonly rotated: boolean;
}

/** Groups in codes. */
export interface CodedGroups {
  /** At the places of the values. */
  readonly codes: Uint8Array;
  /** Scale and zero, binary16: [outer][groups][inner][2]. */
  readonly params: Uint16Array;
}

/** Numbers in {@linkcode CodedGroups.params}. */
export function paramCount({ outer, length, inner, group }: GroupShape): number {
  return 2 * outer * Math.ceil(length / group) * inner;
}

/**
 * Quantizes; |x − x̂| ≤ scale ÷ 2 but for the rounding of scale and zero. A group without range restores its zero. Scales
 * and zeros beyond binary16 are infinite or NaN, and their codes anything: callers refuse them.
 *
 * @param x is overwritten where it is rotated
 */
export function quantizeGroups(x: Float32Array, shape: GroupShape): CodedGroups {
  const { length, bits, leastRange, rotated } = shape;
  if (rotated) hadamard(x, length);
  const codes = new Uint8Array(x.length);
  const params = new Uint16Array(paramCount(shape));
  const top = (1 << bits) - 1;
  eachGroup(shape, (at, stride, end, p) => {
    let [low, high] = [x[at], x[at]];
    // A rotation that overflows leaves infinities or NaN, which these keep.
    for (let i = at + stride; i < end; i += stride) {
      low = Math.min(low, x[i]);
      high = Math.max(high, x[i]);
    }
    // The authors' tensors are binary16, and so is the difference they divide. + 0: a zero has no sign.
    const range = f16ToNumber(numberToF16(fround(high - low) + 0));
    params[p] = numberToF16(fround(Math.max(range, fround(leastRange)) / top));
    params[p + 1] = numberToF16(low + 0);
    const [scale, zero] = [f16ToNumber(params[p]), f16ToNumber(params[p + 1])];
    if (scale === 0) return;
    for (let i = at; i < end; i += stride) codes[i] = uniformCode(fround(fround(x[i] - zero) / scale), top);
  });
  return { codes, params };
}

/** The inverse: x̂ = zero + scale · code, rotated back. */
export function dequantizeGroups({ codes, params }: CodedGroups, shape: GroupShape): Float32Array {
  const x = new Float32Array(codes.length);
  eachGroup(shape, (at, stride, end, p) => {
    const [scale, zero] = [f16ToNumber(params[p]), f16ToNumber(params[p + 1])];
    for (let i = at; i < end; i += stride) x[i] = fround(scale * codes[i]) + zero;
  });
  if (shape.rotated) hadamard(x, shape.length);
  return x;
}

/** Clamped to 0 … top, then rounded, halves to even (as torch's clamp and round). */
function uniformCode(value: number, top: number): number {
  if (!(value > 0)) return 0;
  if (value >= top) return top;
  const code = (value + 0.5) | 0;
  return code - value === 0.5 ? code & ~1 : code;
}

/** Calls `body` with every group and the index of its scale. */
function eachGroup(
  { outer, length, inner, group }: GroupShape,
  body: (at: number, stride: number, end: number, p: number) => void,
): void {
  let p = 0;
  for (let o = 0; o < outer; o++) {
    for (let first = 0; first < length; first += group) {
      const begin = (o * length + first) * inner;
      const end = (o * length + Math.min(length, first + group)) * inner;
      for (let i = 0; i < inner; i++, p += 2) body(begin + i, inner, end, p);
    }
  }
}
