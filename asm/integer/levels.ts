// Levels i16 [components][tokens] → what the product reads, token by token, k padded to 4 and tokens to 4 with zeros.
// Relaxed SIMD: level = low + 256 · high in planes of i8 [tokens][depth · 4], the high one only as deep as it has
// values. Otherwise: i16 [tokens][depth · 4] in the place of the low plane.

/** Returns the depth (k / 4) of the high plane. `sums` gets Σ level of each token. */
export function packLevels(
  levels: usize,
  components: u32,
  tokens: u32,
  low: usize,
  high: usize,
  sums: usize,
): u32 {
  const width = ((components + 3) >> 2) << 2;
  const padded = (tokens + 3) & ~3;
  memory.fill(sums, 0, padded << 2);
  if (!ASC_FEATURE_RELAXED_SIMD) {
    memory.fill(low, 0, (padded * width) << 1);
    for (let c: u32 = 0; c < components; c++) {
      for (let t: u32 = 0; t < tokens; t++) {
        store<i16>(low + ((t * width + c) << 1), load<i16>(levels + ((c * tokens + t) << 1)));
      }
    }
    return 0;
  }
  memory.fill(low, 0, padded * width);
  memory.fill(high, 0, padded * width);
  let last: u32 = 0;
  for (let c: u32 = 0; c < components; c++) {
    let any = 0;
    for (let t: u32 = 0; t < tokens; t++) {
      const level = <i32> load<i16>(levels + ((c * tokens + t) << 1));
      const l = <i32> <i8> level;
      const h = (level - l) >> 8;
      store<i8>(low + t * width + c, <i8> l);
      store<i8>(high + t * width + c, <i8> h);
      store<i32>(sums + (t << 2), load<i32>(sums + (t << 2)) + level);
      any |= h;
    }
    if (any) last = c + 1;
  }
  return (last + 3) >> 2;
}
