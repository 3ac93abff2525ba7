// Four-lane arithmetic and element conversion shared by the kernels, scalar twins beside the vector forms. Conversions
// are integer arithmetic with one exact float operation where subnormals need it, so every build gives the same bits.

/** Element types of a cache, as the host passes them. */
export const F32: i32 = 0;
export const F16: i32 = 1;
export const BF16: i32 = 2;

/** a · b + c on f32x4: fused where the build has relaxed SIMD. Only the matrix products may use it. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

// Constants of the conversions lie in memory: a load costs an engine less than building a vector anew, which it does wherever
// one is used. Builds without vectors have none.

const MAGNITUDE: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x7fffffff], 4) : 0;
const ONE: usize = ASC_FEATURE_SIMD ? memory.data<u32>([1], 4) : 0;
const SIGN: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x80000000], 4) : 0;
const HALF_MAGNITUDE: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x0fffe000], 4) : 0;
const HALF_NORMAL: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x00800000], 4) : 0;
const HALF_FINITE: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x0f7fffff], 4) : 0;
const BIAS: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x38000000], 4) : 0;
const SMALLEST: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x38800000], 4) : 0;
const HALF_SIGN: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x8000], 4) : 0;
const ROUNDING: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0xc8000fff], 4) : 0;
const BINADE: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x3f000000], 4) : 0;
const INFINITY: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x7f800000], 4) : 0;
const HALF_QUIET: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x200], 4) : 0;
const HALF_INFINITY: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x7c00], 4) : 0;
const TOO_LARGE: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x47800000], 4) : 0;
const BF16_ROUNDING: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x7fff], 4) : 0;
const BF16_QUIET: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x40], 4) : 0;

/** A constant in four lanes. */
// @ts-ignore: decorator
@inline
function constant(at: usize): v128 {
  return v128.load32_splat(at);
}

// binary16 → binary32. The fraction and exponent move up by 13 bits and the exponent by the difference of the biases,
// 112. A subnormal is read with exponent 113 and gets its implicit one, 2^-14, subtracted again; infinity and NaN need
// the bias twice.

/** Four binary16, zero-extended to 32 bits, as f32. */
// @ts-ignore: decorator
@inline
export function f16x4ToF32(bits: v128): v128 {
  const sign = v128.and(i32x4.shl(bits, 16), constant(SIGN));
  const magnitude = v128.and(i32x4.shl(bits, 13), constant(HALF_MAGNITUDE));
  const unit = constant(HALF_NORMAL), bias = constant(BIAS);
  const subnormal = i32x4.lt_s(magnitude, unit);
  const special = i32x4.gt_s(magnitude, constant(HALF_FINITE));
  const twice = i32x4.add(bias, v128.and(special, bias));
  const raised = i32x4.add(i32x4.add(magnitude, twice), v128.and(subnormal, unit));
  // Subtracting zero changes nothing, NaN included.
  return v128.or(f32x4.sub(raised, v128.and(subnormal, constant(SMALLEST))), sign);
}

/** Binary16 bits as f32. */
export function f16ToF32(bits: u32): f32 {
  const sign = (bits & 0x8000) << 16;
  const magnitude = (bits & 0x7fff) << 13;
  let raised = magnitude + (112 << 23);
  if (magnitude > 0x0f7fffff) raised += 112 << 23;
  if (magnitude < 1 << 23) {
    raised = reinterpret<u32>(reinterpret<f32>(raised + (1 << 23)) - reinterpret<f32>(0x38800000));
  }
  return reinterpret<f32>(raised | sign);
}

// binary32 → binary16, to nearest even (F. Giesen's float_to_half_full_rtne). A normal result adds half a unit less one,
// plus one where the last bit kept is odd; a subnormal result is rounded by the adder, in a binade whose unit is 2^-24.

/** Four f32 as binary16 in the low halves of 32-bit lanes. */
// @ts-ignore: decorator
@inline
export function f32x4ToF16(x: v128): v128 {
  const magnitude = v128.and(x, constant(MAGNITUDE));
  const sign = v128.and(i32x4.shr_u(x, 16), constant(HALF_SIGN));
  const odd = v128.and(i32x4.shr_u(magnitude, 13), constant(ONE));
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(magnitude, constant(ROUNDING)), odd), 13);
  const small = i32x4.lt_s(magnitude, constant(SMALLEST)), large = i32x4.ge_s(magnitude, constant(TOO_LARGE));
  if (!v128.any_true(v128.or(small, large))) return v128.or(normal, sign);
  return v128.or(beyondNormal(magnitude, normal, small, large), sign);
}

/** Subnormal where small, infinity and NaN where too large: seldom any, so that one call for all is the faster. */
function beyondNormal(magnitude: v128, normal: v128, small: v128, large: v128): v128 {
  const binade = constant(BINADE);
  const subnormal = i32x4.sub(f32x4.add(magnitude, binade), binade);
  const nan = v128.and(i32x4.gt_s(magnitude, constant(INFINITY)), constant(HALF_QUIET));
  const special = v128.or(constant(HALF_INFINITY), nan);
  return v128.bitselect(special, v128.bitselect(subnormal, normal, small), large);
}

/** An f32 as binary16 bits. */
export function f32ToF16(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  const magnitude = bits & 0x7fffffff;
  const sign = (bits >> 16) & 0x8000;
  if (magnitude >= 143 << 23) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude < 113 << 23) {
    return sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + reinterpret<f32>(126 << 23)) - (126 << 23));
  }
  return sign | ((magnitude + 0xc8000fff + ((magnitude >> 13) & 1)) >> 13);
}

/** Four f32 as bfloat16 in the low halves of 32-bit lanes, to nearest even; NaN stays NaN. */
// @ts-ignore: decorator
@inline
export function f32x4ToBf16(x: v128): v128 {
  const high = i32x4.shr_u(x, 16);
  const odd = v128.and(high, constant(ONE));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(x, constant(BF16_ROUNDING)), odd), 16);
  const nan = i32x4.gt_s(v128.and(x, constant(MAGNITUDE)), constant(INFINITY));
  return v128.bitselect(v128.or(high, constant(BF16_QUIET)), rounded, nan);
}

/** An f32 as bfloat16 bits. */
export function f32ToBf16(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >> 16) | 0x40;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

// Elements in memory. `dtype` is a constant wherever these are inlined, so one branch remains.

/** Elements i … i + 3 at `from` as f32. */
// @ts-ignore: decorator
@inline
export function load4(dtype: i32, from: usize, i: usize): v128 {
  if (dtype == F32) return v128.load(from + (i << 2));
  const bits = v128.load16x4_u(from + (i << 1));
  return dtype == F16 ? f16x4ToF32(bits) : i32x4.shl(bits, 16);
}

/** Element i at `from` as f32. */
// @ts-ignore: decorator
@inline
export function load1(dtype: i32, from: usize, i: usize): f32 {
  if (dtype == F32) return load<f32>(from + (i << 2));
  const bits = <u32>load<u16>(from + (i << 1));
  return dtype == F16 ? f16ToF32(bits) : reinterpret<f32>(bits << 16);
}

/** Stores f32 as elements i … i + 3 at `to`. */
// @ts-ignore: decorator
@inline
export function store4(dtype: i32, to: usize, i: usize, x: v128): void {
  if (dtype == F32) {
    v128.store(to + (i << 2), x);
  } else {
    const bits = dtype == F16 ? f32x4ToF16(x) : f32x4ToBf16(x);
    v128.store64_lane(to + (i << 1), i16x8.narrow_i32x4_u(bits, bits), 0);
  }
}

/** Stores f32 as element i at `to`. */
// @ts-ignore: decorator
@inline
export function store1(dtype: i32, to: usize, i: usize, x: f32): void {
  if (dtype == F32) store<f32>(to + (i << 2), x);
  else store<u16>(to + (i << 1), dtype == F16 ? f32ToF16(x) : f32ToBf16(x));
}
