// Lane helpers shared by the codec kernels: conversions between f32 and the stored element types, four at a time where
// the build has SIMD, and their scalar twins.

/** Element types, as src/backend/wasm passes them. */
export const F32: i32 = 0;
export const F16: i32 = 1;
export const BF16: i32 = 2;

/** 2^112 moves binary16's exponent bias (15) to binary32's (127). */
const F16_BIAS: f32 = reinterpret<f32>((127 + 112) << 23);
/** 0.5 as f32 bits: adding it to a small magnitude leaves units of 2^-24 in the low bits, rounded to nearest even. */
const F16_SUBNORMAL: u32 = 126 << 23;

/** Value of binary16 bits, with infinities and NaN. */
// @ts-ignore: decorator
@inline
export function f16ToF32(bits: u32): f32 {
  const magnitude = bits & 0x7fff;
  let out = reinterpret<u32>(reinterpret<f32>(magnitude << 13) * F16_BIAS);
  if (magnitude > 0x7bff) out |= 0x7f800000;
  return reinterpret<f32>(out | ((bits & 0x8000) << 16));
}

/** Binary16 bits nearest to a value, ties to even, overflow to infinity. */
// @ts-ignore: decorator
@inline
export function f32ToF16(value: f32): u32 {
  const bits = reinterpret<u32>(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    return sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + reinterpret<f32>(F16_SUBNORMAL)) - F16_SUBNORMAL);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** bfloat16 bits nearest to a value, ties to even; NaN stays NaN. */
// @ts-ignore: decorator
@inline
export function f32ToBf16(value: f32): u32 {
  const bits = reinterpret<u32>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** Element i at `p` as f32. */
// @ts-ignore: decorator
@inline
export function loadElement(p: usize, i: usize, dtype: i32): f32 {
  if (dtype == F16) return f16ToF32(<u32>load<u16>(p + (i << 1)));
  if (dtype == BF16) return reinterpret<f32>(<u32>load<u16>(p + (i << 1)) << 16);
  return load<f32>(p + (i << 2));
}

/** Stores f32 as element i at `p`. */
// @ts-ignore: decorator
@inline
export function storeElement(p: usize, i: usize, dtype: i32, value: f32): void {
  if (dtype == F16) store<u16>(p + (i << 1), <u16>f32ToF16(value));
  else if (dtype == BF16) store<u16>(p + (i << 1), <u16>f32ToBf16(value));
  else store<f32>(p + (i << 2), value);
}

/** Four binary16 in the low halves of four lanes → f32x4. */
// @ts-ignore: decorator
@inline
export function widenF16(bits: v128): v128 {
  const magnitude = v128.and(bits, i32x4.splat(0x7fff));
  const special = v128.and(i32x4.gt_s(magnitude, i32x4.splat(0x7bff)), i32x4.splat(0x7f800000));
  const value = f32x4.mul(i32x4.shl(magnitude, 13), f32x4.splat(F16_BIAS));
  return v128.or(v128.or(value, special), i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16));
}

/** The same for finite binary16 only (a basis), two operations less. */
// @ts-ignore: decorator
@inline
export function widenFiniteF16(bits: v128): v128 {
  const value = f32x4.mul(i32x4.shl(v128.and(bits, i32x4.splat(0x7fff)), 13), f32x4.splat(F16_BIAS));
  return v128.or(value, i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16));
}

/** f32x4 → binary16 in the low halves of four lanes. */
// @ts-ignore: decorator
@inline
export function narrowF16(value: v128): v128 {
  const sign = v128.and(i32x4.shr_u(value, 16), i32x4.splat(0x8000));
  const magnitude = v128.and(value, i32x4.splat(0x7fffffff));
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(magnitude, i32x4.splat(0xfff - 0x38000000)), odd), 13);
  const small = i32x4.sub(f32x4.add(magnitude, i32x4.splat(F16_SUBNORMAL)), i32x4.splat(F16_SUBNORMAL));
  const large = v128.bitselect(
    i32x4.splat(0x7e00),
    i32x4.splat(0x7c00),
    i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)),
  );
  let out = v128.bitselect(small, normal, i32x4.lt_s(magnitude, i32x4.splat(0x38800000)));
  out = v128.bitselect(large, out, i32x4.ge_s(magnitude, i32x4.splat(0x47800000)));
  return v128.or(out, sign);
}

/** Elements i … i + 3 at `p` as f32x4. */
// @ts-ignore: decorator
@inline
export function loadElements(p: usize, i: usize, dtype: i32): v128 {
  if (dtype == F32) return v128.load(p + (i << 2));
  const bits = v128.load16x4_u(p + (i << 1));
  return dtype == F16 ? widenF16(bits) : i32x4.shl(bits, 16);
}

/** Stores f32x4 as elements i … i + 3 at `p`. */
// @ts-ignore: decorator
@inline
export function storeElements(p: usize, i: usize, dtype: i32, value: v128): void {
  if (dtype == F32) {
    v128.store(p + (i << 2), value);
    return;
  }
  let bits: v128;
  if (dtype == F16) bits = narrowF16(value);
  else {
    const nan = i32x4.gt_s(v128.and(value, i32x4.splat(0x7fffffff)), i32x4.splat(0x7f800000));
    const odd = v128.and(i32x4.shr_u(value, 16), i32x4.splat(1));
    const rounded = i32x4.shr_u(i32x4.add(i32x4.add(value, i32x4.splat(0x7fff)), odd), 16);
    const quiet = v128.or(i32x4.shr_u(value, 16), i32x4.splat(0x40));
    bits = v128.bitselect(quiet, rounded, nan);
  }
  v128.store64_lane(p + (i << 1), i16x8.narrow_i32x4_u(bits, bits), 0);
}
