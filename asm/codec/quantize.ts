// quantize: KVTC's per-token group quantizer, in f32 with one rounding an operation (no fused multiply-add), so that all
// builds give the same codes.
import { encodeE4m3 } from "./e4m3";
import { f16ToF32, f32ToF16 } from "./lanes";
import { FP8, groupFirst, groupSize, groupType, INT2 } from "./plan";

/**
 * coefficients f32 [tokens][stride] → symbols u8 [tokens][components] (0 outside any group) and params u16
 * [tokens][groups][2] = binary16 bits of shift and scale.
 */
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
  for (let t: usize = 0; t < tokens; t++, coefficients += stride * 4, symbols += components) {
    for (let g: usize = 0; g < groups; g++, params += 4) {
      const first = groupFirst(plan, g), size = groupSize(plan, g), type = groupType(plan, g);
      const x = coefficients + first * 4;
      store<u32>(
        params,
        type == FP8
          ? encodeE4m3(x, size, symbols + first) << 16
          : encodeUniform(x, size, type == INT2 ? 3 : 15, symbols + first),
      );
    }
  }
}

/**
 * Codes 0 … levels of n ≥ 1 values. Returns the bits of shift | scale << 16. The vector forms of minimum and maximum
 * (pmin, pmax) do not tell zeros apart, which the shift does not either, nor NaN, which callers keep out.
 */
function encodeUniform(x: usize, n: usize, levels: f32, codes: usize): u32 {
  let least = load<f32>(x), most = least;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    if (n >= 8) {
      let l0 = v128.load(x), l1 = v128.load(x, 16), m0 = l0, m1 = l1;
      for (i = 8; i + 8 <= n; i += 8) {
        const a = v128.load(x + (i << 2)), b = v128.load(x + (i << 2), 16);
        l0 = f32x4.pmin(l0, a), l1 = f32x4.pmin(l1, b);
        m0 = f32x4.pmax(m0, a), m1 = f32x4.pmax(m1, b);
      }
      l0 = f32x4.pmin(l0, l1), m0 = f32x4.pmax(m0, m1);
      least = min(
        min(f32x4.extract_lane(l0, 0), f32x4.extract_lane(l0, 1)),
        min(f32x4.extract_lane(l0, 2), f32x4.extract_lane(l0, 3)),
      );
      most = max(
        max(f32x4.extract_lane(m0, 0), f32x4.extract_lane(m0, 1)),
        max(f32x4.extract_lane(m0, 2), f32x4.extract_lane(m0, 3)),
      );
    }
  }
  for (; i < n; i++) {
    const value = load<f32>(x + (i << 2));
    least = min(least, value), most = max(most, value);
  }
  // + 0: a minimum of −0 becomes 0, so that it does not matter which zero was met first.
  const shiftBits = f32ToF16(least + 0);
  const scaleBits = f32ToF16((most - least) / levels);
  const shift = f16ToF32(shiftBits), scale = f16ToF32(scaleBits);
  // The codes of a group without range stay 0.
  if (scale != 0) {
    i = 0;
    if (ASC_FEATURE_SIMD) {
      const z = f32x4.splat(shift), s = f32x4.splat(scale), top = f32x4.splat(levels);
      for (; i + 8 <= n; i += 8) {
        const low = code4(v128.load(x + (i << 2)), z, s, top);
        const high = code4(v128.load(x + (i << 2), 16), z, s, top);
        const words = i16x8.narrow_i32x4_u(low, high);
        v128.store64_lane(codes + i, i8x16.narrow_i16x8_u(words, words), 0);
      }
    }
    for (; i < n; i++) {
      const q = nearest<f32>((load<f32>(x + (i << 2)) - shift) / scale);
      store<u8>(codes + i, <u32>min<f32>(max<f32>(q, 0), levels));
    }
  }
  return shiftBits | (scaleBits << 16);
}

/**
 * Four codes in 32-bit lanes. Clamped first, which changes nothing since the ends are whole; then 2^23, whose unit is 1,
 * makes the adder round to nearest even and leaves the code in the low bits.
 */
// @ts-ignore: decorator
@inline
function code4(x: v128, shift: v128, scale: v128, top: v128): v128 {
  const q = f32x4.div(f32x4.sub(x, shift), scale);
  const clamped = f32x4.pmin(f32x4.pmax(f32x4.splat(0), q), top);
  return v128.and(f32x4.add(clamped, f32x4.splat(8388608)), i32x4.splat(0xff));
}
