// Uniform quantization of groups in an array [outer][length][inner]: a group is `group` neighbours along the middle axis, the
// last one of an axis may be shorter. Parameters are binary16: scale, zero [outer][groups][inner].
import { f16ToF32, f16x4ToF32, f32ToF16, f32x4ToF16 } from "../codec/lanes";

/** x f32 → codes u8 at the same places and params u16. Codes are 0 … top; a range below `least` counts as `least`. */
export function quantizeGroups(
  x: usize,
  outer: usize,
  length: usize,
  inner: usize,
  group: usize,
  top: f32,
  least: f32,
  codes: usize,
  params: usize,
): void {
  for (let o: usize = 0; o < outer; o++) {
    for (let at: usize = 0; at < length; at += group) {
      const count = min(group, length - at);
      if (inner == 1) {
        run(x, count, top, least, codes, params);
        params += 4;
      } else {
        let i: usize = 0;
        if (ASC_FEATURE_SIMD) {
          for (; i + 4 <= inner; i += 4) columns(x + (i << 2), count, inner, top, least, codes + i, params + (i << 2));
        }
        for (; i < inner; i++) column(x + (i << 2), count, inner, top, least, codes + i, params + (i << 2));
        params += inner << 2;
      }
      x += (count * inner) << 2;
      codes += count * inner;
    }
  }
}

/** Bits of scale | zero << 16. The range is rounded to binary16 as well, as the authors' tensors are. */
function parameters(low: f32, high: f32, top: f32, least: f32): u32 {
  const range = max<f32>(f16ToF32(f32ToF16(high - low + 0)), least);
  return f32ToF16(range / top) | (f32ToF16(low + 0) << 16);
}

/** A group whose values lie side by side. Minimum and maximum keep a NaN, which a rotation that overflows leaves. */
function run(x: usize, count: usize, top: f32, least: f32, codes: usize, params: usize): void {
  let low = load<f32>(x), high = low;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    if (count >= 4) {
      let l = v128.load(x), h = l;
      for (i = 4; i + 4 <= count; i += 4) {
        const v = v128.load(x + (i << 2));
        l = f32x4.min(l, v), h = f32x4.max(h, v);
      }
      low = min(
        min(f32x4.extract_lane(l, 0), f32x4.extract_lane(l, 1)),
        min(f32x4.extract_lane(l, 2), f32x4.extract_lane(l, 3)),
      );
      high = max(
        max(f32x4.extract_lane(h, 0), f32x4.extract_lane(h, 1)),
        max(f32x4.extract_lane(h, 2), f32x4.extract_lane(h, 3)),
      );
    }
  }
  for (; i < count; i++) {
    const v = load<f32>(x + (i << 2));
    low = min(low, v), high = max(high, v);
  }
  const bits = parameters(low, high, top, least);
  store<u32>(params, bits);
  const scale = f16ToF32(bits & 0xffff), zero = f16ToF32(bits >> 16);
  if (scale == 0) {
    memory.fill(codes, 0, count);
    return;
  }
  i = 0;
  if (ASC_FEATURE_SIMD) {
    const s = f32x4.splat(scale), z = f32x4.splat(zero), t = f32x4.splat(top);
    for (; i + 4 <= count; i += 4) {
      store4Codes(codes + i, code4(v128.load(x + (i << 2)), s, z, t));
    }
  }
  for (; i < count; i++) store<u8>(codes + i, code(load<f32>(x + (i << 2)), scale, zero, top));
}

/** A group whose values lie `inner` apart. */
function column(x: usize, count: usize, inner: usize, top: f32, least: f32, codes: usize, params: usize): void {
  let low = load<f32>(x), high = low;
  for (let i: usize = 1; i < count; i++) {
    const v = load<f32>(x + ((i * inner) << 2));
    low = min(low, v), high = max(high, v);
  }
  const bits = parameters(low, high, top, least);
  store<u32>(params, bits);
  const scale = f16ToF32(bits & 0xffff), zero = f16ToF32(bits >> 16);
  for (let i: usize = 0; i < count; i++) {
    const value = load<f32>(x + ((i * inner) << 2));
    store<u8>(codes + i * inner, scale == 0 ? 0 : code(value, scale, zero, top));
  }
}

/** Four such groups side by side. */
function columns(x: usize, count: usize, inner: usize, top: f32, least: f32, codes: usize, params: usize): void {
  let low = v128.load(x), high = low;
  for (let i: usize = 1; i < count; i++) {
    const v = v128.load(x + ((i * inner) << 2));
    low = f32x4.pmin(low, v), high = f32x4.pmax(high, v);
  }
  const none = f32x4.splat(0), t = f32x4.splat(top);
  const half = f32x4ToF16(f32x4.add(f32x4.sub(high, low), none));
  const range = f32x4.max(f16x4ToF32(half), f32x4.splat(least));
  const scaleBits = f32x4ToF16(f32x4.div(range, t)), zeroBits = f32x4ToF16(f32x4.add(low, none));
  v128.store(params, v128.or(scaleBits, i32x4.shl(zeroBits, 16)));
  const s = f16x4ToF32(scaleBits), z = f16x4ToF32(zeroBits);
  const some = f32x4.ne(s, none);
  for (let i: usize = 0; i < count; i++) {
    const q = v128.and(code4(v128.load(x + ((i * inner) << 2)), s, z, t), some);
    store4Codes(codes + i * inner, q);
  }
}

function code(x: f32, scale: f32, zero: f32, top: f32): u32 {
  return <u32>nearest<f32>(min<f32>(max<f32>((x - zero) / scale, 0), top));
}

/** Four codes in 32-bit lanes: clamped, then 2^23, whose unit is 1, makes the adder round to nearest even. */
// @ts-ignore: decorator
@inline
function code4(x: v128, scale: v128, zero: v128, top: v128): v128 {
  const q = f32x4.div(f32x4.sub(x, zero), scale);
  const clamped = f32x4.pmin(f32x4.pmax(f32x4.splat(0), q), top);
  return v128.and(f32x4.add(clamped, f32x4.splat(8388608)), i32x4.splat(0xff));
}

// @ts-ignore: decorator
@inline
function store4Codes(to: usize, lanes: v128): void {
  const words = i16x8.narrow_i32x4_u(lanes, lanes);
  v128.store32_lane(to, i8x16.narrow_i16x8_u(words, words), 0);
}

/** The inverse: zero + scale · code. The product is exact. */
export function dequantizeGroups(
  codes: usize,
  outer: usize,
  length: usize,
  inner: usize,
  group: usize,
  params: usize,
  x: usize,
): void {
  for (let o: usize = 0; o < outer; o++) {
    for (let at: usize = 0; at < length; at += group) {
      const count = min(group, length - at);
      if (inner == 1) {
        restoreRun(codes, count, load<u32>(params), x);
        params += 4;
      } else {
        for (let r: usize = 0; r < count; r++) restoreRow(codes + r * inner, inner, params, x + ((r * inner) << 2));
        params += inner << 2;
      }
      x += (count * inner) << 2;
      codes += count * inner;
    }
  }
}

function restoreRun(codes: usize, count: usize, bits: u32, x: usize): void {
  const scale = f16ToF32(bits & 0xffff), zero = f16ToF32(bits >> 16);
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const s = f32x4.splat(scale), z = f32x4.splat(zero);
    for (; i + 4 <= count; i += 4) v128.store(x + (i << 2), f32x4.add(f32x4.mul(load4Codes(codes + i), s), z));
  }
  for (; i < count; i++) store<f32>(x + (i << 2), <f32>load<u8>(codes + i) * scale + zero);
}

/** A row of as many groups. */
function restoreRow(codes: usize, count: usize, params: usize, x: usize): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    for (; i + 4 <= count; i += 4) {
      const bits = v128.load(params + (i << 2));
      const s = f16x4ToF32(v128.and(bits, i32x4.splat(0xffff))), z = f16x4ToF32(i32x4.shr_u(bits, 16));
      v128.store(x + (i << 2), f32x4.add(f32x4.mul(load4Codes(codes + i), s), z));
    }
  }
  for (; i < count; i++) {
    const bits = load<u32>(params + (i << 2));
    store<f32>(x + (i << 2), <f32>load<u8>(codes + i) * f16ToF32(bits & 0xffff) + f16ToF32(bits >> 16));
  }
}

// @ts-ignore: decorator
@inline
function load4Codes(from: usize): v128 {
  return f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(from))));
}
