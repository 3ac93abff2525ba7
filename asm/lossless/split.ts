// split: elements → symbols and planes. Element types as everywhere: 0 f32, 1 f16, 2 bf16.
import { toRows } from "./transpose";

const F32: i32 = 0;
const F16: i32 = 1;

// Constants lie in memory: engines build those in the code anew wherever they stand, three instructions each.
/** All but the sign. */
const MAGNITUDE: usize = memory.data<i16>([0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x7fff]);
/** What is 0 for the 31 exponents that symbols tell, when it is subtracted with saturation. */
const RANGE: usize = memory.data<i16>([3967, 3967, 3967, 3967, 3967, 3967, 3967, 3967]);
/** A symbol without its sign; its fraction alone. */
const UNSIGNED: usize = memory.data<i16>([127, 127, 127, 127, 127, 127, 127, 127]);
const FRACTION: usize = memory.data<i16>([131, 131, 131, 131, 131, 131, 131, 131]);
/** The lower half of every byte; the lower byte of every two. */
const HALVES: usize = memory.data<u32>([0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f]);
const LOWER: usize = memory.data<i16>([255, 255, 255, 255, 255, 255, 255, 255]);

/** Greatest exponent field below 255 of `count` elements of bf16 or f32. */
export function topExponent(data: usize, dtype: i32, count: usize): u32 {
  const width: usize = dtype == F32 ? 4 : 2;
  const end = data + count * width;
  let at = data;
  let top: u32 = 0;
  if (ASC_FEATURE_SIMD) {
    let tops = i16x8.splat(0);
    const step = width << 3;
    for (; at + step <= end; at += step) {
      const high = dtype == F32
        ? v128.shuffle<u8>(v128.load(at), v128.load(at + 16), 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31)
        : v128.load(at);
      tops = i16x8.max_s(tops, v128.and(high, v128.load(MAGNITUDE)));
    }
    for (let lanes = 0; lanes < 8; lanes++) {
      top = max(top, <u32>i16x8.extract_lane_s(tops, 0) >> 7);
      tops = v128.shuffle<u8>(tops, tops, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1);
    }
    // Infinities and NaN are rare: only where there are some the others are looked at one by one.
    if (top == 255) {
      top = 0;
      at = data;
    }
  }
  for (; at < end; at += width) {
    const exponent = ((<u32>load<u16>(at + width - 2)) >> 7) & 255;
    if (exponent < 255 && exponent > top) top = exponent;
  }
  return top;
}

/**
 * Elements of a block [tokens][dim] → symbols, by rows; the block's planes one after the other; exponents outside the
 * range into `escapes`, whose number is returned. `rows` u32 [dim]; `work` tokens · dim bytes.
 */
export function split(
  data: usize,
  dtype: i32,
  base: u32,
  tokens: usize,
  dim: usize,
  rows: usize,
  work: usize,
  symbols: usize,
  planes: usize,
  escapes: usize,
): u32 {
  const n = tokens * dim;
  const plane1 = planes + ((n + 1) >> 1) + ((n + 7) >> 3);
  let end = escapes;
  if (dtype == F16) splitHalf(data, n, work, planes);
  else if (dtype == F32) end = splitWide(F32, data, n, base, work, planes, plane1, plane1 + n, escapes);
  else end = splitWide(2, data, n, base, work, planes, 0, 0, escapes);
  toRows(work, tokens, dim, rows, symbols);
  return <u32>(end - escapes);
}

/**
 * Symbols → what they are with a base greater by `more`, −31 to 31; escapes stay as they are. Returns whether that needs
 * no further escapes; if it does, the symbols are spoiled.
 */
export function rebase(symbols: usize, count: usize, more: i32): bool {
  const taken = more << 2;
  let i: usize = 0;
  let least: i32 = 4;
  if (ASC_FEATURE_SIMD) {
    const magnitude = i8x16.splat(127), octaves = i8x16.splat(<i8>taken);
    let leasts = magnitude;
    for (; i + 16 <= count; i += 16) {
      const s = v128.load(symbols + i);
      const m = v128.and(s, magnitude), kept = i8x16.gt_s(i8x16.splat(4), m);
      // What leaves the range at its upper end is negative.
      const moved = i8x16.sub(m, octaves);
      leasts = i8x16.min_s(leasts, v128.bitselect(magnitude, moved, kept));
      v128.store(symbols + i, v128.bitselect(moved, s, v128.andnot(magnitude, kept)));
    }
    if (v128.any_true(i8x16.lt_s(leasts, i8x16.splat(4)))) least = 0;
  }
  for (; i < count; i++) {
    const s = <i32>load<u8>(symbols + i);
    if ((s & 127) < 4) continue;
    const moved = (s & 127) - taken;
    if (moved < 4 || moved > 127) least = 0;
    store<u8>(symbols + i, (s & 128) | (moved & 127));
  }
  return least == 4;
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
  let next = escapes;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const bases = i16x8.splat(<i16>(base << 7)), above = i16x8.splat(<i16>((base + 1) << 7));
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
      // The lower bytes: the fifth bit of the rest becomes their sign, the other four of two neighbours one byte.
      const low = v128.shuffle<u8>(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
      store<u16>(fifth + (i >> 3), i8x16.bitmask(i16x8.shl(low, 3)));
      const halves = v128.and(low, v128.load(HALVES));
      const pairs = v128.and(v128.or(halves, i16x8.shr_u(halves, 4)), v128.load(LOWER));
      v128.store64_lane(five + (i >> 1), i8x16.narrow_i16x8_u(pairs, pairs), 0);
      const aOut = outside(a, above), bOut = outside(b, above);
      const aSymbol = symbolOf(a, bases), bSymbol = symbolOf(b, bases);
      if (!v128.any_true(v128.or(aOut, bOut))) {
        v128.store(symbols + i, i8x16.narrow_i16x8_u(aSymbol, bSymbol));
      } else {
        v128.store(symbols + i, i8x16.narrow_i16x8_u(withoutExponent(aSymbol, aOut), withoutExponent(bSymbol, bOut)));
        for (let k = i; k < i + 16; k++) next = escape(dtype, data, k, base, next);
      }
    }
  }
  // Those that are left put their bits beside each other.
  memory.fill(five + (i >> 1), 0, ((n + 1) >> 1) - (i >> 1));
  memory.fill(fifth + (i >> 3), 0, ((n + 7) >> 3) - (i >> 3));
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

/** Not 0 where exponents are none of base + 1 to base + 31. `above`: 128 · (base + 1). */
// @ts-ignore: decorator
@inline
function outside(bits: v128, above: v128): v128 {
  return i16x8.sub_sat_u(i16x8.sub(v128.and(bits, v128.load(MAGNITUDE)), above), v128.load(RANGE));
}

/** Sign, exponent less the base, and two fraction bits, of exponents inside. `bases`: 128 · base. */
// @ts-ignore: decorator
@inline
function symbolOf(bits: v128, bases: v128): v128 {
  return v128.bitselect(i16x8.shr_u(i16x8.sub(bits, bases), 5), i16x8.shr_u(bits, 8), v128.load(UNSIGNED));
}

/** The symbols with exponent 0 where they are outside. */
// @ts-ignore: decorator
@inline
function withoutExponent(symbols: v128, outside: v128): v128 {
  return v128.and(symbols, v128.or(i16x8.eq(outside, i16x8.splat(0)), v128.load(FRACTION)));
}
