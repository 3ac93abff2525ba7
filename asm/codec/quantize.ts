// KVTC's group quantizer and its inverse, and FP8 blocks. Definitions, operation by operation: Backend.quantize. No
// fused arithmetic here: equal coefficients give equal codes in every build.
import { f16ToF32, f32ToF16 } from "./lanes";

const FP8: i32 = 3;
/** 2^14: its unit in the last place is 2^-9, E4M3's smallest step. */
const E4M3_SUBNORMAL: u32 = (127 + 14) << 23;
/** Smallest normal E4M3, 2^-6, as f32 bits. */
const E4M3_NORMAL: i32 = (127 - 6) << 23;
/** 448 as f32 bits. */
const E4M3_MAX: i32 = 0x43e00000;
/** 2^120 moves E4M3's exponent bias (7) to binary32's (127). */
const E4M3_BIAS: f32 = reinterpret<f32>((127 + 120) << 23);

/** E4M3 code of a finite value, ties to even, saturating. */
// @ts-ignore: decorator
@inline
function encodeE4m3(value: f32): u32 {
  const bits = reinterpret<u32>(value);
  const sign = (bits >>> 24) & 0x80;
  const magnitude = min(<i32>(bits & 0x7fffffff), E4M3_MAX);
  if (magnitude < E4M3_NORMAL) {
    return sign |
      (reinterpret<u32>(reinterpret<f32>(magnitude) + reinterpret<f32>(E4M3_SUBNORMAL)) - E4M3_SUBNORMAL);
  }
  const rounded = (magnitude + 0x7ffff + ((magnitude >>> 20) & 1)) >>> 20;
  return sign | (rounded - ((127 - 7) << 3));
}

/** Four at a time, codes in the low bytes of the lanes. */
// @ts-ignore: decorator
@inline
function encodeE4m3x4(value: v128): v128 {
  const sign = v128.and(i32x4.shr_u(value, 24), i32x4.splat(0x80));
  const magnitude = i32x4.min_s(v128.and(value, i32x4.splat(0x7fffffff)), i32x4.splat(E4M3_MAX));
  const small = i32x4.sub(f32x4.add(magnitude, i32x4.splat(E4M3_SUBNORMAL)), i32x4.splat(E4M3_SUBNORMAL));
  const odd = v128.and(i32x4.shr_u(magnitude, 20), i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(magnitude, i32x4.splat(0x7ffff)), odd), 20);
  const normal = i32x4.sub(rounded, i32x4.splat((127 - 7) << 3));
  return v128.or(sign, v128.bitselect(small, normal, i32x4.lt_s(magnitude, i32x4.splat(E4M3_NORMAL))));
}

/** Value of an E4M3 code; the NaN codes give NaN. */
// @ts-ignore: decorator
@inline
function decodeE4m3(code: u32): f32 {
  const magnitude = code & 0x7f;
  if (magnitude == 0x7f) return NaN;
  const value = reinterpret<f32>(magnitude << 20) * E4M3_BIAS;
  return reinterpret<f32>(reinterpret<u32>(value) | ((code & 0x80) << 24));
}

// @ts-ignore: decorator
@inline
function decodeE4m3x4(code: v128): v128 {
  const magnitude = v128.and(code, i32x4.splat(0x7f));
  const nan = v128.and(i32x4.eq(magnitude, i32x4.splat(0x7f)), i32x4.splat(0x7fc00000));
  const value = f32x4.mul(i32x4.shl(magnitude, 20), f32x4.splat(E4M3_BIAS));
  return v128.or(v128.or(value, nan), i32x4.shl(v128.and(code, i32x4.splat(0x80)), 24));
}

/** Largest magnitude of n values. */
function absMax(x: usize, n: usize): f32 {
  let top: f32 = 0;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    let m = f32x4.splat(0);
    for (; i + 4 <= n; i += 4) m = f32x4.max(m, f32x4.abs(v128.load(x + (i << 2))));
    m = f32x4.max(m, v128.shuffle<i32>(m, m, 2, 3, 0, 1));
    top = max(f32x4.extract_lane(m, 0), f32x4.extract_lane(m, 1));
  }
  for (; i < n; i++) top = max(top, abs(load<f32>(x + (i << 2))));
  return top;
}

/** Codes of n values with a common scale; all zero when the scale is. */
function fp8Codes(x: usize, n: usize, scale: f32, codes: usize): void {
  if (scale == 0) {
    memory.fill(codes, 0, n);
    return;
  }
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const s = f32x4.splat(scale);
    for (; i + 16 <= n; i += 16) {
      const p = x + (i << 2);
      const a = encodeE4m3x4(f32x4.div(v128.load(p), s)), b = encodeE4m3x4(f32x4.div(v128.load(p, 16), s));
      const c = encodeE4m3x4(f32x4.div(v128.load(p, 32), s)), d = encodeE4m3x4(f32x4.div(v128.load(p, 48), s));
      const low = i16x8.narrow_i32x4_s(a, b), high = i16x8.narrow_i32x4_s(c, d);
      v128.store(codes + i, i8x16.narrow_i16x8_u(low, high));
    }
  }
  for (; i < n; i++) store<u8>(codes + i, <u8>encodeE4m3(load<f32>(x + (i << 2)) / scale));
}

function fp8Values(codes: usize, n: usize, scale: f32, x: usize): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const s = f32x4.splat(scale);
    for (; i + 4 <= n; i += 4) {
      const c = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(codes + i)));
      v128.store(x + (i << 2), f32x4.mul(decodeE4m3x4(c), s));
    }
  }
  for (; i < n; i++) store<f32>(x + (i << 2), decodeE4m3(<u32>load<u8>(codes + i)) * scale);
}

/** Codes of n values, shift and scale stored at `param`. `top` is the largest code, 3 or 15. */
function uniformCodes(x: usize, n: usize, top: f32, param: usize, codes: usize): void {
  let low: f32 = load<f32>(x), high = low;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    if (n >= 4) {
      let lo = v128.load(x), hi = lo;
      for (i = 4; i + 4 <= n; i += 4) {
        const v = v128.load(x + (i << 2));
        lo = f32x4.min(lo, v);
        hi = f32x4.max(hi, v);
      }
      lo = f32x4.min(lo, v128.shuffle<i32>(lo, lo, 2, 3, 0, 1));
      hi = f32x4.max(hi, v128.shuffle<i32>(hi, hi, 2, 3, 0, 1));
      low = min(f32x4.extract_lane(lo, 0), f32x4.extract_lane(lo, 1));
      high = max(f32x4.extract_lane(hi, 0), f32x4.extract_lane(hi, 1));
    }
  }
  for (; i < n; i++) {
    const v = load<f32>(x + (i << 2));
    low = min(low, v);
    high = max(high, v);
  }
  // + 0: a minimum of −0 becomes 0, so that it does not matter which zero was met first.
  const shiftBits = f32ToF16(low + 0), scaleBits = f32ToF16((high - low) / top);
  store<u16>(param, <u16>shiftBits);
  store<u16>(param, <u16>scaleBits, 2);
  const shift = f16ToF32(shiftBits), scale = f16ToF32(scaleBits);
  if (scale == 0) {
    memory.fill(codes, 0, n);
    return;
  }
  i = 0;
  if (ASC_FEATURE_SIMD) {
    const z = f32x4.splat(shift), s = f32x4.splat(scale), ceiling = f32x4.splat(top), zero = f32x4.splat(0);
    for (; i + 16 <= n; i += 16) {
      const p = x + (i << 2);
      const a = uniformCode(v128.load(p), z, s, zero, ceiling), b = uniformCode(v128.load(p, 16), z, s, zero, ceiling);
      const c = uniformCode(v128.load(p, 32), z, s, zero, ceiling);
      const d = uniformCode(v128.load(p, 48), z, s, zero, ceiling);
      v128.store(codes + i, i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d)));
    }
  }
  for (; i < n; i++) {
    const q = nearest((load<f32>(x + (i << 2)) - shift) / scale);
    store<u8>(codes + i, <u8>min(max(q, <f32>0), top));
  }
}

// @ts-ignore: decorator
@inline
function uniformCode(x: v128, z: v128, s: v128, zero: v128, ceiling: v128): v128 {
  const q = f32x4.nearest(f32x4.div(f32x4.sub(x, z), s));
  return i32x4.trunc_sat_f32x4_s(f32x4.min(f32x4.max(q, zero), ceiling));
}

/** plan: u32 [groups][3] = first, size, type. Buffers as in Backend.quantize. */
export function quantize(
  coefficients: usize,
  stride: usize,
  tokens: usize,
  plan: usize,
  groups: usize,
  components: usize,
  symbols: usize,
  params: usize,
): void {
  memory.fill(symbols, 0, tokens * components);
  for (let t: usize = 0; t < tokens; t++) {
    const row = coefficients + ((t * stride) << 2);
    const codes = symbols + t * components;
    for (let g: usize = 0; g < groups; g++, params += 4) {
      const group = plan + g * 12;
      const first = <usize>load<u32>(group), size = <usize>load<u32>(group, 4);
      const type = load<i32>(group, 8);
      const x = row + (first << 2);
      if (type == FP8) {
        const scaleBits = f32ToF16(absMax(x, size) / <f32>448);
        store<u16>(params, 0);
        store<u16>(params, <u16>scaleBits, 2);
        fp8Codes(x, size, f16ToF32(scaleBits), codes + first);
      } else {
        uniformCodes(x, size, type == 1 ? <f32>3 : <f32>15, params, codes + first);
      }
    }
  }
}

/** Inverse of quantize. */
export function dequantize(
  symbols: usize,
  params: usize,
  plan: usize,
  groups: usize,
  components: usize,
  tokens: usize,
  coefficients: usize,
  stride: usize,
): void {
  memory.fill(coefficients, 0, (tokens * stride) << 2);
  for (let t: usize = 0; t < tokens; t++) {
    const row = coefficients + ((t * stride) << 2);
    const codes = symbols + t * components;
    for (let g: usize = 0; g < groups; g++, params += 4) {
      const group = plan + g * 12;
      const first = <usize>load<u32>(group), size = <usize>load<u32>(group, 4);
      const shift = f16ToF32(<u32>load<u16>(params)), scale = f16ToF32(<u32>load<u16>(params, 2));
      const x = row + (first << 2), q = codes + first;
      if (load<i32>(group, 8) == FP8) {
        fp8Values(q, size, scale, x);
        continue;
      }
      let i: usize = 0;
      if (ASC_FEATURE_SIMD) {
        const z = f32x4.splat(shift), s = f32x4.splat(scale);
        for (; i + 4 <= size; i += 4) {
          const c = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(q + i)));
          v128.store(x + (i << 2), f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(c), s), z));
        }
      }
      for (; i < size; i++) store<f32>(x + (i << 2), <f32>load<u8>(q + i) * scale + shift);
    }
  }
}

/** FP8 rows with a scale each: codes u8 [rows][length], scales u16 [rows]. */
export function encodeFp8(src: usize, rows: usize, length: usize, codes: usize, scales: usize): void {
  for (let r: usize = 0; r < rows; r++, src += length << 2, codes += length, scales += 2) {
    const bits = f32ToF16(absMax(src, length) / <f32>448);
    store<u16>(scales, <u16>bits);
    fp8Codes(src, length, f16ToF32(bits), codes);
  }
}

/** Inverse of encodeFp8. */
export function decodeFp8(codes: usize, scales: usize, rows: usize, length: usize, dst: usize): void {
  for (let r: usize = 0; r < rows; r++, dst += length << 2, codes += length, scales += 2) {
    fp8Values(codes, length, f16ToF32(<u32>load<u16>(scales)), dst);
  }
}
