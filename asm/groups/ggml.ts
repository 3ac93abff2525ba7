// ggml's blocks of 32 values, rounded as its reference quantizers do (src/stages/quantize/ggml_blocks.ts).
import { f16ToF32, f32ToF16 } from "../codec/lanes";

/** f32 [blocks][32] → a binary16 scale and 32 int8 each. */
export function quantizeQ8(x: usize, blocks: usize, to: usize): void {
  for (let b: usize = 0; b < blocks; b++, x += 128, to += 34) {
    let most: f32 = 0;
    if (ASC_FEATURE_SIMD) {
      let m = f32x4.abs(v128.load(x));
      for (let i: usize = 16; i < 128; i += 16) m = f32x4.pmax(m, f32x4.abs(v128.load(x + i)));
      most = max(
        max(f32x4.extract_lane(m, 0), f32x4.extract_lane(m, 1)),
        max(f32x4.extract_lane(m, 2), f32x4.extract_lane(m, 3)),
      );
    } else {
      for (let i: usize = 0; i < 128; i += 4) most = max(most, abs(load<f32>(x + i)));
    }
    const scale = most / 127;
    let inverse: f32 = scale == 0 ? 0 : 1 / scale;
    // Of a scale too small for an inverse, which binary16 has as zero: all codes are 0.
    if (inverse == f32.POSITIVE_INFINITY) inverse = 0;
    store<u16>(to, f32ToF16(scale));
    for (let i: usize = 0; i < 32; i++) {
      const value = load<f32>(x + (i << 2)) * inverse;
      // Half away from zero: what is left of the whole part is exact.
      const whole = trunc(value);
      store<i8>(to + 2 + i, <i32>whole + (abs(value - whole) >= 0.5 ? (value < 0 ? -1 : 1) : 0));
    }
  }
}

/** f32 [blocks][32] → a binary16 scale and 16 bytes each: value i in the low half of byte i, i + 16 in the high. */
export function quantizeQ4(x: usize, blocks: usize, to: usize): void {
  for (let b: usize = 0; b < blocks; b++, x += 128, to += 18) {
    let extreme: f32 = 0;
    for (let i: usize = 0; i < 128; i += 4) {
      const value = load<f32>(x + i);
      if (abs(value) > abs(extreme)) extreme = value;
    }
    const scale = extreme / -8, inverse: f32 = scale == 0 ? 0 : 1 / scale;
    store<u16>(to, f32ToF16(scale));
    for (let i: usize = 0; i < 16; i++) {
      const low = code4bit(load<f32>(x + (i << 2)), inverse);
      store<u8>(to + 2 + i, low | (code4bit(load<f32>(x + (i << 2), 64), inverse) << 4));
    }
  }
}

function code4bit(value: f32, inverse: f32): u32 {
  return min<u32>(15, <u32>(value * inverse + 8.5));
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
    for (let i: usize = 0; i < 16; i++) {
      const pair = <i32>load<u8>(from + 2 + i);
      store<f32>(x + (i << 2), scale * <f32>((pair & 15) - 8));
      store<f32>(x + (i << 2), scale * <f32>((pair >> 4) - 8), 64);
    }
  }
}
