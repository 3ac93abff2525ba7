// Rows of binary32 ↔ int8 between limits of the row, which are binary16. src/stages/quantize/latent_int8.ts defines the
// numbers; doubles, and their operations in its order.
import { f16ToF32, f32ToF16 } from "../codec/lanes";

/** rows f32 [count][width] → codes i8 [count][width], limits u16 [count][2]. */
export function encodeLatents(rows: usize, count: usize, width: usize, codes: usize, limits: usize): void {
  for (let row: usize = 0; row < count; row++, rows += width << 2, codes += width, limits += 4) {
    const minBits = outward(extreme(rows, width, false), false), maxBits = outward(extreme(rows, width, true), true);
    store<u16>(limits, minBits);
    store<u16>(limits, maxBits, 2);
    const low = <f64>f16ToF32(minBits), high = <f64>f16ToF32(maxBits);
    if (low == high) {
      memory.fill(codes, 0x80, width);
      continue;
    }
    const scale = 255 / (high - low), zp = -rounded(scale * low) - 128;
    let i: usize = 0;
    if (ASC_FEATURE_SIMD) {
      const scales = f64x2.splat(scale), zps = f64x2.splat(zp), half = f64x2.splat(0.5), one = f64x2.splat(1);
      for (; i + 4 <= width; i += 4) {
        const x = v128.load(rows + (i << 2));
        const a = roundedTwo(f64x2.add(f64x2.mul(scales, f64x2.promote_low_f32x4(x)), zps), half, one);
        const upper = i64x2.shuffle(x, x, 1, 1);
        const b = roundedTwo(f64x2.add(f64x2.mul(scales, f64x2.promote_low_f32x4(upper)), zps), half, one);
        const q = i64x2.shuffle(i32x4.trunc_sat_f64x2_s_zero(a), i32x4.trunc_sat_f64x2_s_zero(b), 0, 2);
        // Narrowing saturates.
        const halves = i16x8.narrow_i32x4_s(q, q);
        v128.store32_lane(codes + i, i8x16.narrow_i16x8_s(halves, halves), 0);
      }
    }
    for (; i < width; i++) {
      const q = rounded(scale * <f64>load<f32>(rows + (i << 2)) + zp);
      // NaN is 0.
      store<i8>(codes + i, q == q ? <i32>min<f64>(max<f64>(q, -128), 127) : 0);
    }
  }
}

/** codes and limits, finite and min ≤ max → rows f32 [count][width]. */
export function decodeLatents(codes: usize, limits: usize, count: usize, width: usize, rows: usize): void {
  for (let row: usize = 0; row < count; row++, rows += width << 2, codes += width, limits += 4) {
    const least = f16ToF32(load<u16>(limits));
    const low = <f64>least, high = <f64>f16ToF32(load<u16>(limits, 2));
    let i: usize = 0;
    if (low == high) {
      for (; i < width; i++) store<f32>(rows + (i << 2), least);
      continue;
    }
    const scale = 255 / (high - low), zp = -rounded(scale * low) - 128;
    if (ASC_FEATURE_SIMD) {
      const scales = f64x2.splat(scale), zps = f64x2.splat(zp);
      for (; i + 4 <= width; i += 4) {
        const q = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(codes + i)));
        const a = f64x2.div(f64x2.sub(f64x2.convert_low_i32x4_s(q), zps), scales);
        const b = f64x2.div(f64x2.sub(f64x2.convert_low_i32x4_s(i64x2.shuffle(q, q, 1, 1)), zps), scales);
        v128.store(
          rows + (i << 2),
          i64x2.shuffle(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2),
        );
      }
    }
    for (; i < width; i++) store<f32>(rows + (i << 2), <f32>((<f64>load<i8>(codes + i) - zp) / scale));
  }
}

/** The least number of a row, or the greatest; NaN is neither. Of zeros the first, whose sign its limit has. */
function extreme(row: usize, width: usize, greatest: bool): f32 {
  let found: f32 = greatest ? -Infinity : Infinity;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    let lanes = f32x4.splat(found);
    for (; i + 4 <= width; i += 4) {
      const x = v128.load(row + (i << 2));
      lanes = greatest ? f32x4.pmax(lanes, x) : f32x4.pmin(lanes, x);
    }
    found = beyond(found, f32x4.extract_lane(lanes, 0), greatest);
    found = beyond(found, f32x4.extract_lane(lanes, 1), greatest);
    found = beyond(found, f32x4.extract_lane(lanes, 2), greatest);
    found = beyond(found, f32x4.extract_lane(lanes, 3), greatest);
  }
  for (; i < width; i++) found = beyond(found, load<f32>(row + (i << 2)), greatest);
  if (found != 0) return found;
  for (i = 0; load<f32>(row + (i << 2)) != 0;) i++;
  return load<f32>(row + (i << 2));
}

// @ts-ignore: decorator
@inline
function beyond(found: f32, x: f32, greatest: bool): f32 {
  return (greatest ? x > found : x < found) ? x : found;
}

/** Bits of the largest number of binary16 up to `value`, or the least from it on. */
function outward(value: f32, up: bool): u32 {
  const bits = f32ToF16(value);
  const back = f16ToF32(bits);
  if (!(up ? back < value : back > value)) return bits;
  if ((bits & 0x7fff) == 0) return up ? 1 : 0x8001;
  return <bool>(bits >> 15) == up ? bits - 1 : bits + 1;
}

/** To the nearest whole number, halves up: what is added may not round, as ½ would. */
// @ts-ignore: decorator
@inline
function rounded(x: f64): f64 {
  const below = floor<f64>(x);
  return x - below >= 0.5 ? below + 1 : below;
}

// @ts-ignore: decorator
@inline
function roundedTwo(x: v128, half: v128, one: v128): v128 {
  const below = f64x2.floor(x);
  return f64x2.add(below, v128.and(f64x2.ge(f64x2.sub(x, below), half), one));
}
