// f32 rows from the exact sums: x = f32(sum) · f32(scale of the feature · scale of the token), in place.

/** rows i32 → f32 [tokens][stride], `stride` a multiple of 4; scales f32 [stride], tokenScales f32 [tokens]. */
export function scaleRows(rows: usize, tokens: u32, stride: u32, scales: usize, tokenScales: usize): void {
  for (let t: u32 = 0; t < tokens; t++) {
    const row = rows + ((t * stride) << 2);
    const scale = load<f32>(tokenScales + (t << 2));
    if (ASC_FEATURE_SIMD) {
      const by = f32x4.splat(scale);
      for (let f: u32 = 0; f < stride; f += 4) {
        const factor = f32x4.mul(v128.load(scales + (f << 2)), by);
        v128.store(row + (f << 2), f32x4.mul(f32x4.convert_i32x4_s(v128.load(row + (f << 2))), factor));
      }
    } else {
      for (let f: u32 = 0; f < stride; f++) {
        const factor: f32 = load<f32>(scales + (f << 2)) * scale;
        store<f32>(row + (f << 2), <f32> load<i32>(row + (f << 2)) * factor);
      }
    }
  }
}
