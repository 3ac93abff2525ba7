// ggml's blocks of 32 values, rounded as its reference quantizers do (src/stages/quantize/ggml_blocks.ts).
import { f16ToF32, f32ToF16 } from "../codec/lanes";

/** f32 [blocks][32] → a binary16 scale and 32 int8 each. */
export function quantizeQ8(x: usize, blocks: usize, to: usize): void {
  for (let b: usize = 0; b < blocks; b++, x += 128, to += 34) {
    const scale = largest(x) / 127;
    let inverse: f32 = scale == 0 ? 0 : 1 / scale;
    // Of a scale too small for an inverse, which binary16 has as zero: all codes are 0.
    if (inverse == f32.POSITIVE_INFINITY) inverse = 0;
    store<u16>(to, f32ToF16(scale));
    if (ASC_FEATURE_SIMD) {
      const factor = f32x4.splat(inverse);
      for (let half: usize = 0; half < 32; half += 16) {
        const from = x + (half << 2);
        const low = i16x8.narrow_i32x4_s(codes8bit(from, factor), codes8bit(from + 16, factor));
        const high = i16x8.narrow_i32x4_s(codes8bit(from + 32, factor), codes8bit(from + 48, factor));
        v128.store(to + 2 + half, i8x16.narrow_i16x8_s(low, high));
      }
    } else {
      for (let i: usize = 0; i < 32; i++) {
        const value = load<f32>(x + (i << 2)) * inverse;
        const whole = trunc(value);
        store<i8>(to + 2 + i, <i32>whole + (abs(value - whole) >= 0.5 ? (value < 0 ? -1 : 1) : 0));
      }
    }
  }
}

/** f32 [blocks][32] → a binary16 scale and 16 bytes each: value i in the low half of byte i, i + 16 in the high. */
export function quantizeQ4(x: usize, blocks: usize, to: usize): void {
  for (let b: usize = 0; b < blocks; b++, x += 128, to += 18) {
    // The first value of the largest magnitude. A zero has no sign.
    const most = largest(x);
    let extreme: f32 = 0;
    for (let i: usize = 0; i < 128 && extreme == 0; i += 4) {
      const value = load<f32>(x + i);
      if (abs(value) == most) extreme = value + 0;
    }
    const scale = extreme / -8, inverse: f32 = scale == 0 ? 0 : 1 / scale;
    store<u16>(to, f32ToF16(scale));
    if (ASC_FEATURE_SIMD) {
      const factor = f32x4.splat(inverse);
      const even = i16x8.narrow_i32x4_u(codes4bit(x, factor), codes4bit(x + 16, factor));
      const odd = i16x8.narrow_i32x4_u(codes4bit(x + 32, factor), codes4bit(x + 48, factor));
      v128.store(to + 2, i8x16.narrow_i16x8_u(even, odd));
    } else {
      for (let i: usize = 0; i < 16; i++) {
        const low = code4bit(load<f32>(x + (i << 2)), inverse);
        store<u8>(to + 2 + i, low | (code4bit(load<f32>(x + (i << 2), 64), inverse) << 4));
      }
    }
  }
}

/** The largest magnitude of a block. */
// @ts-ignore: decorator
@inline
function largest(x: usize): f32 {
  if (ASC_FEATURE_SIMD) {
    let m = f32x4.abs(v128.load(x));
    for (let i: usize = 16; i < 128; i += 16) m = f32x4.pmax(m, f32x4.abs(v128.load(x + i)));
    return max(
      max(f32x4.extract_lane(m, 0), f32x4.extract_lane(m, 1)),
      max(f32x4.extract_lane(m, 2), f32x4.extract_lane(m, 3)),
    );
  }
  let most: f32 = 0;
  for (let i: usize = 0; i < 128; i += 4) most = max(most, abs(load<f32>(x + i)));
  return most;
}

/** Four codes of q8_0, half away from zero: what is left of the whole part is exact. */
// @ts-ignore: decorator
@inline
function codes8bit(x: usize, factor: v128): v128 {
  const value = f32x4.mul(v128.load(x), factor), whole = f32x4.trunc(value);
  const away = f32x4.ge(f32x4.abs(f32x4.sub(value, whole)), f32x4.splat(0.5));
  // The sign's bit, spread, is −1 or 0: ±1 is one or it.
  const one = v128.or(i32x4.shr_s(value, 31), i32x4.splat(1));
  return i32x4.add(i32x4.trunc_sat_f32x4_s(whole), v128.and(away, one));
}

function code4bit(value: f32, inverse: f32): u32 {
  return min<u32>(15, <u32>(value * inverse + 8.5));
}

/** Values i … i + 3 and i + 16 … i + 19 as bytes of q4_0. */
// @ts-ignore: decorator
@inline
function codes4bit(x: usize, factor: v128): v128 {
  const half = f32x4.splat(8.5), most = i32x4.splat(15);
  const low = i32x4.trunc_sat_f32x4_u(f32x4.add(f32x4.mul(v128.load(x), factor), half));
  const high = i32x4.trunc_sat_f32x4_u(f32x4.add(f32x4.mul(v128.load(x, 64), factor), half));
  return v128.or(i32x4.min_u(low, most), i32x4.shl(i32x4.min_u(high, most), 4));
}

/** The inverse of quantizeQ8. */
export function dequantizeQ8(from: usize, blocks: usize, x: usize): void {
  for (let b: usize = 0; b < blocks; b++, from += 34, x += 128) {
    const scale = f16ToF32(load<u16>(from));
    if (ASC_FEATURE_SIMD) {
      const s = f32x4.splat(scale);
      for (let i: usize = 0; i < 32; i += 4) {
        const codes = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(from + 2 + i)));
        v128.store(x + (i << 2), f32x4.mul(s, f32x4.convert_i32x4_s(codes)));
      }
    } else {
      for (let i: usize = 0; i < 32; i++) store<f32>(x + (i << 2), scale * <f32>load<i8>(from + 2 + i));
    }
  }
}

/** The inverse of quantizeQ4. */
export function dequantizeQ4(from: usize, blocks: usize, x: usize): void {
  for (let b: usize = 0; b < blocks; b++, from += 18, x += 128) {
    const scale = f16ToF32(load<u16>(from));
    if (ASC_FEATURE_SIMD) {
      const s = f32x4.splat(scale);
      for (let i: usize = 0; i < 16; i += 4) {
        const pairs = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(from + 2 + i)));
        const low = i32x4.sub(v128.and(pairs, i32x4.splat(15)), i32x4.splat(8));
        const high = i32x4.sub(i32x4.shr_u(pairs, 4), i32x4.splat(8));
        v128.store(x + (i << 2), f32x4.mul(s, f32x4.convert_i32x4_s(low)));
        v128.store(x + (i << 2), f32x4.mul(s, f32x4.convert_i32x4_s(high)), 64);
      }
    } else {
      for (let i: usize = 0; i < 16; i++) {
        const pair = <i32>load<u8>(from + 2 + i);
        store<f32>(x + (i << 2), scale * <f32>((pair & 15) - 8));
        store<f32>(x + (i << 2), scale * <f32>((pair >> 4) - 8), 64);
      }
    }
  }
}
