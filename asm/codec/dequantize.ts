// dequantize: codes, shifts and scales → coefficients, in f32 with one rounding an operation.
import { decodeE4m3 } from "./e4m3";
import { f16ToF32 } from "./lanes";
import { FP8, groupFirst, groupSize, groupType } from "./plan";

/**
 * symbols u8 [tokens][components] and params u16 [tokens][groups][2] → coefficients f32 [tokens][stride], 0 outside any
 * group.
 */
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
  memory.fill(coefficients, 0, tokens * stride * 4);
  for (let t: usize = 0; t < tokens; t++, coefficients += stride * 4, symbols += components) {
    for (let g: usize = 0; g < groups; g++, params += 4) {
      const first = groupFirst(plan, g), size = groupSize(plan, g);
      const x = coefficients + first * 4;
      const shift = <u32>load<u16>(params), scale = <u32>load<u16>(params, 2);
      if (groupType(plan, g) == FP8) decodeE4m3(symbols + first, size, scale, x);
      else decodeUniform(symbols + first, size, f16ToF32(shift), f16ToF32(scale), x);
    }
  }
}

function decodeUniform(codes: usize, n: usize, shift: f32, scale: f32, x: usize): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const z = f32x4.splat(shift), s = f32x4.splat(scale);
    for (; i + 8 <= n; i += 8) {
      const words = v128.load8x8_u(codes + i);
      const low = f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(words));
      const high = f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(words));
      v128.store(x + (i << 2), f32x4.add(f32x4.mul(low, s), z));
      v128.store(x + (i << 2), f32x4.add(f32x4.mul(high, s), z), 16);
    }
  }
  for (; i < n; i++) store<f32>(x + (i << 2), <f32>load<u8>(codes + i) * scale + shift);
}
