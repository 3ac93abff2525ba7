// join: the inverse of split.
import { fromRows } from "./transpose";

const F32: i32 = 0;
const F16: i32 = 1;

/**
 * Symbols and planes of a block → elements [tokens][dim]; `planes` as split leaves them, `rows` u32 [dim], `work` tokens · dim
 * bytes. Returns whether its symbols need as many exponents as `count` says; elements are there only then.
 */
export function join(
  symbols: usize,
  planes: usize,
  escapes: usize,
  count: u32,
  dtype: i32,
  base: u32,
  tokens: usize,
  dim: usize,
  rows: usize,
  work: usize,
  out: usize,
): bool {
  const n = tokens * dim;
  const plane1 = planes + ((n + 1) >> 1) + ((n + 7) >> 3);
  fromRows(symbols, tokens, dim, rows, work);
  if (dtype == F16) {
    joinHalf(work, planes, n, out);
    return true;
  }
  // All checked before any is read.
  if (countEscapes(work, n) != count) return false;
  if (dtype == F32) joinWide(F32, work, planes, plane1, plane1 + n, n, base, escapes, out);
  else joinWide(2, work, planes, 0, 0, n, base, escapes, out);
  return true;
}

function joinHalf(symbols: usize, low: usize, n: usize, out: usize): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    for (; i + 16 <= n; i += 16) {
      const a = v128.load(low + i), b = v128.load(symbols + i);
      const to = out + (i << 1);
      v128.store(to, v128.shuffle<u8>(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
      v128.store(to, v128.shuffle<u8>(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), 16);
    }
  }
  for (; i < n; i++) store<u16>(out + (i << 1), <u32>load<u8>(low + i) | (<u32>load<u8>(symbols + i) << 8));
}

/** Symbols with exponent 0. */
function countEscapes(symbols: usize, n: usize): u32 {
  let count: u32 = 0;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    for (; i + 16 <= n; i += 16) {
      const exponents = v128.and(v128.load(symbols + i), i8x16.splat(0x7c));
      count += popcnt(i8x16.bitmask(i8x16.eq(exponents, i8x16.splat(0))));
    }
  }
  for (; i < n; i++) count += u32((load<u8>(symbols + i) & 0x7c) == 0);
  return count;
}

/** A block of bf16, or of f32. */
// @ts-ignore: decorator
@inline
function joinWide(
  dtype: i32,
  symbols: usize,
  five: usize,
  plane1: usize,
  plane0: usize,
  n: usize,
  base: u32,
  escapes: usize,
  out: usize,
): void {
  const fifth = five + ((n + 1) >> 1);
  let next = escapes;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const quadrupled = i16x8.splat(<i16>(base << 2));
    const bit = v128(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
    for (; i + 16 <= n; i += 16) {
      const s = v128.load(symbols + i);
      if (v128.any_true(i8x16.eq(v128.and(s, i8x16.splat(0x7c)), i8x16.splat(0)))) {
        for (let k = i; k < i + 16; k++) next = joinOne(dtype, symbols, five, fifth, plane1, plane0, k, base, next, out);
        continue;
      }
      // Five bits of 16 elements: halves of 8 bytes in turn, bits of 2 bytes spread.
      const fours = v128.load64_zero(five + (i >> 1));
      const halves = v128.and(
        v128.shuffle<u8>(fours, i16x8.shr_u(fours, 4), 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
        i8x16.splat(15),
      );
      const bytes = i16x8.splat(load<i16>(fifth + (i >> 3)));
      const spread = v128.shuffle<u8>(bytes, bytes, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
      const set = i8x16.eq(v128.and(spread, bit), bit);
      const rest = v128.or(halves, v128.and(set, i8x16.splat(16)));
      const a = highOf(i16x8.extend_low_i8x16_u(s), i16x8.extend_low_i8x16_u(rest), quadrupled);
      const b = highOf(i16x8.extend_high_i8x16_u(s), i16x8.extend_high_i8x16_u(rest), quadrupled);
      if (dtype == F32) {
        const one = v128.load(plane1 + i), zero = v128.load(plane0 + i);
        const c = v128.shuffle<u8>(zero, one, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        const d = v128.shuffle<u8>(zero, one, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        const to = out + (i << 2);
        v128.store(to, v128.shuffle<u16>(c, a, 0, 8, 1, 9, 2, 10, 3, 11));
        v128.store(to, v128.shuffle<u16>(c, a, 4, 12, 5, 13, 6, 14, 7, 15), 16);
        v128.store(to, v128.shuffle<u16>(d, b, 0, 8, 1, 9, 2, 10, 3, 11), 32);
        v128.store(to, v128.shuffle<u16>(d, b, 4, 12, 5, 13, 6, 14, 7, 15), 48);
      } else {
        v128.store(out + (i << 1), a);
        v128.store(out + (i << 1), b, 16);
      }
    }
  }
  for (; i < n; i++) next = joinOne(dtype, symbols, five, fifth, plane1, plane0, i, base, next, out);
}

/** Upper halves of eight elements whose exponents the symbols tell. `quadrupled`: 4 · base. */
// @ts-ignore: decorator
@inline
function highOf(symbols: v128, rest: v128, quadrupled: v128): v128 {
  const sign = i16x8.shl(i16x8.shr_u(symbols, 7), 15);
  // Exponent and two fraction bits, of which ten remain.
  const upper = i16x8.add(i16x8.shr_u(i16x8.shl(symbols, 9), 9), quadrupled);
  return v128.or(v128.or(sign, i16x8.shr_u(i16x8.shl(upper, 6), 1)), rest);
}

function joinOne(
  dtype: i32,
  symbols: usize,
  five: usize,
  fifth: usize,
  plane1: usize,
  plane0: usize,
  i: usize,
  base: u32,
  escapes: usize,
  out: usize,
): usize {
  const s = <u32>load<u8>(symbols + i);
  let next = escapes;
  let exponent = (s >> 2) & 31;
  if (exponent) exponent = (exponent + base) & 255;
  else exponent = <u32>load<u8>(next++);
  const four = (<u32>load<u8>(five + (i >> 1)) >> (<u32>(i & 1) << 2)) & 15;
  const rest = four | (((<u32>load<u8>(fifth + (i >> 3)) >> <u32>(i & 7)) & 1) << 4);
  const bits = ((s & 128) << 8) | (exponent << 7) | ((s & 3) << 5) | rest;
  if (dtype == F32) {
    store<u8>(out + (i << 2), load<u8>(plane0 + i));
    store<u8>(out + (i << 2), load<u8>(plane1 + i), 1);
    store<u16>(out + (i << 2), bits, 2);
  } else store<u16>(out + (i << 1), bits);
  return next;
}
