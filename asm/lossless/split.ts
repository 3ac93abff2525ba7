// split: elements → symbols and planes. Element types as everywhere: 0 f32, 1 f16, 2 bf16.
import { toRows } from "./transpose";

const F32: i32 = 0;
const F16: i32 = 1;

// Constants lie in memory: engines build those in the code anew wherever they stand, three instructions each.
/** 1 and 16 in turn. */
const PAIR_WEIGHTS: usize = memory.data<i16>([1, 16, 1, 16, 1, 16, 1, 16]);
/** Exponents that symbols tell. */
const RANGE: usize = memory.data<i16>([31, 31, 31, 31, 31, 31, 31, 31]);
/** Exponent and fraction of a symbol. */
const EXPONENT: usize = memory.data<i16>([124, 124, 124, 124, 124, 124, 124, 124]);
const FRACTION: usize = memory.data<i16>([3, 3, 3, 3, 3, 3, 3, 3]);

/** Greatest exponent field below 255 of `count` elements of bf16 or f32. */
export function topExponent(data: usize, dtype: i32, count: usize): u32 {
  const width: usize = dtype == F32 ? 4 : 2;
  const end = data + count * width;
  let at = data;
  let top: u32 = 0;
  if (ASC_FEATURE_SIMD) {
    let tops = i16x8.splat(0);
    const mask = i16x8.splat(255);
    const step = width << 3;
    for (; at + step <= end; at += step) {
      const high = dtype == F32
        ? v128.shuffle<u8>(v128.load(at), v128.load(at + 16), 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31)
        : v128.load(at);
      const exponent = v128.and(i16x8.shr_u(high, 7), mask);
      tops = i16x8.max_s(tops, v128.andnot(exponent, i16x8.eq(exponent, mask)));
    }
    for (let lanes = 0; lanes < 8; lanes++) {
      top = max(top, <u32>i16x8.extract_lane_s(tops, 0));
      tops = v128.shuffle<u8>(tops, tops, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1);
    }
  }
  for (; at < end; at += width) {
    const exponent = ((<u32>load<u16>(at + width - 2)) >> 7) & 255;
    if (exponent < 255 && exponent > top) top = exponent;
  }
  return top;
}

/**
 * Elements [blocks][tokens][dim] → symbols, by rows; the planes one after the other; exponents outside the range into
 * `escapes`, how many into counts u32 [blocks]. `rows` u32 [blocks · dim]; `work` tokens · dim bytes.
 */
export function split(
  data: usize,
  dtype: i32,
  base: u32,
  blocks: usize,
  tokens: usize,
  dim: usize,
  rows: usize,
  work: usize,
  symbols: usize,
  planes: usize,
  escapes: usize,
  counts: usize,
): void {
  const n = tokens * dim;
  const five = ((n + 1) >> 1) + ((n + 7) >> 3);
  const plane1 = planes + blocks * five;
  const plane0 = plane1 + blocks * n;
  let next = escapes;
  for (let block: usize = 0; block < blocks; block++) {
    const before = next;
    if (dtype == F16) splitHalf(data + ((block * n) << 1), n, work, planes + block * n);
    else if (dtype == F32) {
      next = splitWide(
        F32,
        data + ((block * n) << 2),
        n,
        base,
        work,
        planes + block * five,
        plane1 + block * n,
        plane0 + block * n,
        next,
      );
    } else {
      next = splitWide(2, data + ((block * n) << 1), n, base, work, planes + block * five, 0, 0, next);
    }
    store<u32>(counts + (block << 2), <u32>(next - before));
    toRows(work, tokens, dim, rows + ((block * dim) << 2), symbols);
  }
}

function splitHalf(data: usize, n: usize, symbols: usize, low: usize): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    for (; i + 16 <= n; i += 16) {
      const a = v128.load(data + (i << 1)), b = v128.load(data + (i << 1), 16);
      v128.store(low + i, v128.shuffle<u8>(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
      v128.store(symbols + i, v128.shuffle<u8>(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31));
    }
  }
  for (; i < n; i++) {
    const bits = <u32>load<u16>(data + (i << 1));
    store<u8>(low + i, bits);
    store<u8>(symbols + i, bits >> 8);
  }
}

/** A block of bf16, or of f32 whose upper halves are that. Returns the end of the escapes. */
// @ts-ignore: decorator
@inline
function splitWide(
  dtype: i32,
  data: usize,
  n: usize,
  base: u32,
  symbols: usize,
  five: usize,
  plane1: usize,
  plane0: usize,
  escapes: usize,
): usize {
  const fifth = five + ((n + 1) >> 1);
  memory.fill(five, 0, ((n + 1) >> 1) + ((n + 7) >> 3));
  let next = escapes;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const bases = i16x8.splat(<i16>(base + 1)), quadrupled = i16x8.splat(<i16>(base << 2));
    for (; i + 16 <= n; i += 16) {
      let a: v128, b: v128;
      if (dtype == F32) {
        const at = data + (i << 2);
        const w = v128.load(at), x = v128.load(at, 16), y = v128.load(at, 32), z = v128.load(at, 48);
        a = v128.shuffle<u8>(w, x, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
        b = v128.shuffle<u8>(y, z, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
        const c = v128.shuffle<u8>(w, x, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
        const d = v128.shuffle<u8>(y, z, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
        v128.store(plane0 + i, v128.shuffle<u64>(c, d, 0, 2));
        v128.store(plane1 + i, v128.shuffle<u64>(c, d, 1, 3));
      } else {
        a = v128.load(data + (i << 1));
        b = v128.load(data + (i << 1), 16);
      }
      const aIn = inside(a, bases), bIn = inside(b, bases);
      v128.store(symbols + i, i8x16.narrow_i16x8_u(symbolOf(a, aIn, quadrupled), symbolOf(b, bIn, quadrupled)));
      // The fifth bit of the rest as the sign of what is narrowed; pairs of the other four as sums of products by 1, 16.
      store<u16>(fifth + (i >> 3), i8x16.bitmask(i8x16.narrow_i16x8_s(i16x8.shl(a, 11), i16x8.shl(b, 11))));
      const weights = v128.load(PAIR_WEIGHTS);
      const low = i32x4.dot_i16x8_s(i16x8.shr_u(i16x8.shl(a, 12), 12), weights);
      const high = i32x4.dot_i16x8_s(i16x8.shr_u(i16x8.shl(b, 12), 12), weights);
      const pairs = i16x8.narrow_i32x4_u(low, high);
      v128.store64_lane(five + (i >> 1), i8x16.narrow_i16x8_u(pairs, pairs), 0);
      if (!i16x8.all_true(v128.and(aIn, bIn))) {
        for (let k = i; k < i + 16; k++) next = escape(dtype, data, k, base, next);
      }
    }
  }
  for (; i < n; i++) {
    const bits = highBits(dtype, data, i);
    if (dtype == F32) {
      store<u8>(plane0 + i, load<u8>(data + (i << 2)));
      store<u8>(plane1 + i, load<u8>(data + (i << 2), 1));
    }
    const d = ((bits >> 7) & 255) - base;
    store<u8>(symbols + i, ((bits >> 8) & 128) | (d - 1 < 31 ? d << 2 : 0) | ((bits >> 5) & 3));
    const at = five + (i >> 1);
    store<u8>(at, <u32>load<u8>(at) | ((bits & 15) << (<u32>(i & 1) << 2)));
    const last = fifth + (i >> 3);
    store<u8>(last, <u32>load<u8>(last) | (((bits >> 4) & 1) << <u32>(i & 7)));
    next = escape(dtype, data, i, base, next);
  }
  return next;
}

/** The upper 16 bits of element i. */
// @ts-ignore: decorator
@inline
function highBits(dtype: i32, data: usize, i: usize): u32 {
  return dtype == F32 ? <u32>load<u16>(data + (i << 2), 2) : <u32>load<u16>(data + (i << 1));
}

/** Appends the exponent of element i if symbols do not tell it. */
// @ts-ignore: decorator
@inline
function escape(dtype: i32, data: usize, i: usize, base: u32, next: usize): usize {
  const exponent = (highBits(dtype, data, i) >> 7) & 255;
  if (exponent - base - 1 < 31) return next;
  store<u8>(next, exponent);
  return next + 1;
}

/** Where exponents are base + 1 to base + 31. `bases`: base + 1. */
// @ts-ignore: decorator
@inline
function inside(bits: v128, bases: v128): v128 {
  return i16x8.lt_u(i16x8.sub(i16x8.shr_u(i16x8.shl(bits, 1), 8), bases), v128.load(RANGE));
}

/** Sign, exponent less the base where it is inside, and two fraction bits. `quadrupled`: 4 · base. */
// @ts-ignore: decorator
@inline
function symbolOf(bits: v128, inside: v128, quadrupled: v128): v128 {
  const exponent = v128.and(i16x8.sub(i16x8.shr_u(bits, 5), quadrupled), v128.load(EXPONENT));
  const fraction = v128.and(i16x8.shr_u(bits, 5), v128.load(FRACTION));
  return v128.or(v128.or(i16x8.shl(i16x8.shr_u(bits, 15), 7), fraction), v128.and(exponent, inside));
}
