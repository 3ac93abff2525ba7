// FP8 E4M3 (OCP 8-bit Floating Point Specification 1.0, "FN" variant): bias 7, no infinities, NaN 0x7f and 0xff, largest
// magnitude 448. The same integer scheme as binary16 (lanes.ts); 120 is the difference of the biases.
import { f16ToF32, f32ToF16 } from "./lanes";

/** The E4M3 code nearest to x, ties to even, saturating at ±448; NaN gives 0x7f whatever its sign. */
function toE4m3(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  const sign = (bits >> 24) & 0x80;
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7f;
  const magnitude = min(bits & 0x7fffffff, 0x43e00000);
  if (magnitude < 121 << 23) {
    return sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + reinterpret<f32>(141 << 23)) - (141 << 23));
  }
  return sign | ((magnitude + 0xc407ffff + ((magnitude >> 20) & 1)) >> 20);
}

/** Four codes in 32-bit lanes. */
// @ts-ignore: decorator
@inline
function toE4m3x4(x: v128): v128 {
  const whole = v128.and(x, i32x4.splat(0x7fffffff));
  const magnitude = i32x4.min_u(whole, i32x4.splat(0x43e00000));
  const odd = v128.and(i32x4.shr_u(magnitude, 20), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(magnitude, i32x4.splat(0xc407ffff)), odd), 20);
  const magic = i32x4.splat(141 << 23);
  const subnormal = i32x4.sub(f32x4.add(magnitude, magic), magic);
  const number = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(121 << 23)));
  const signed = v128.or(number, v128.and(i32x4.shr_u(x, 24), i32x4.splat(0x80)));
  return v128.bitselect(i32x4.splat(0x7f), signed, i32x4.gt_s(whole, i32x4.splat(0x7f800000)));
}

/** The value of a code. */
function fromE4m3(code: u32): f32 {
  const sign = (code & 0x80) << 24;
  const magnitude = (code & 0x7f) << 20;
  let raised = magnitude + (120 << 23);
  if (magnitude == 0x7f << 20) raised = 0x7fc00000;
  if (magnitude < 1 << 23) {
    raised = reinterpret<u32>(reinterpret<f32>(raised + (1 << 23)) - reinterpret<f32>(121 << 23));
  }
  return reinterpret<f32>(raised | sign);
}

/** Four codes, zero-extended to 32 bits, as f32. */
// @ts-ignore: decorator
@inline
function fromE4m3x4(codes: v128): v128 {
  const sign = i32x4.shl(v128.and(codes, i32x4.splat(0x80)), 24);
  const magnitude = i32x4.shl(v128.and(codes, i32x4.splat(0x7f)), 20);
  const subnormal = i32x4.lt_s(magnitude, i32x4.splat(1 << 23));
  const nan = v128.and(i32x4.eq(magnitude, i32x4.splat(0x7f << 20)), i32x4.splat(0x7fc00000));
  const raised = i32x4.add(i32x4.add(magnitude, i32x4.splat(120 << 23)), v128.and(subnormal, i32x4.splat(1 << 23)));
  const number = f32x4.sub(raised, v128.and(subnormal, i32x4.splat(121 << 23)));
  return v128.or(v128.or(number, nan), sign);
}

/** max |x[i]|, i < n. */
function largest(x: usize, n: usize): f32 {
  let amax: f32 = 0;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    let m0 = f32x4.splat(0), m1 = m0;
    for (; i + 8 <= n; i += 8) {
      m0 = f32x4.pmax(m0, f32x4.abs(v128.load(x + (i << 2))));
      m1 = f32x4.pmax(m1, f32x4.abs(v128.load(x + (i << 2), 16)));
    }
    m0 = f32x4.pmax(m0, m1);
    amax = max(
      max(f32x4.extract_lane(m0, 0), f32x4.extract_lane(m0, 1)),
      max(f32x4.extract_lane(m0, 2), f32x4.extract_lane(m0, 3)),
    );
  }
  for (; i < n; i++) amax = max(amax, abs(load<f32>(x + (i << 2))));
  return amax;
}

/** Codes of n values with one scale, amax / 448 rounded to binary16. Returns the scale's bits. */
export function encodeE4m3(x: usize, n: usize, codes: usize): u32 {
  const bits = f32ToF16(largest(x, n) / 448);
  const scale = f16ToF32(bits);
  if (scale == 0) {
    memory.fill(codes, 0, n);
    return bits;
  }
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const s = f32x4.splat(scale);
    for (; i + 8 <= n; i += 8) {
      const low = toE4m3x4(f32x4.div(v128.load(x + (i << 2)), s));
      const high = toE4m3x4(f32x4.div(v128.load(x + (i << 2), 16), s));
      const words = i16x8.narrow_i32x4_u(low, high);
      v128.store64_lane(codes + i, i8x16.narrow_i16x8_u(words, words), 0);
    }
  }
  for (; i < n; i++) store<u8>(codes + i, toE4m3(load<f32>(x + (i << 2)) / scale));
  return bits;
}

/** x[i] = value of codes[i] times the scale (binary16 bits), i < n. */
export function decodeE4m3(codes: usize, n: usize, bits: u32, x: usize): void {
  const scale = f16ToF32(bits);
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const s = f32x4.splat(scale);
    for (; i + 8 <= n; i += 8) {
      const words = v128.load8x8_u(codes + i);
      v128.store(x + (i << 2), f32x4.mul(fromE4m3x4(i32x4.extend_low_i16x8_u(words)), s));
      v128.store(x + (i << 2), f32x4.mul(fromE4m3x4(i32x4.extend_high_i16x8_u(words)), s), 16);
    }
  }
  for (; i < n; i++) store<f32>(x + (i << 2), fromE4m3(load<u8>(codes + i)) * scale);
}
