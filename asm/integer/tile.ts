// The basis in tiles: [block of 16 features][k / 4][16 features][4 k], k padded to 4 and features to 16 with zeros. For
// relaxed SIMD 64 is added: its dot product takes the second operand as unsigned 7 bit.

/** basis i8 [components][features] → tiles. */
export function packBasis(basis: usize, components: u32, features: u32, to: usize): void {
  const depth = (components + 3) >> 2;
  const blocks = (features + 15) >> 4;
  const shift = ASC_FEATURE_RELAXED_SIMD ? 64 : 0;
  for (let block: u32 = 0; block < blocks; block++) {
    for (let k: u32 = 0; k < depth << 2; k++) {
      const row = basis + k * features + (block << 4);
      const at = to + ((block * depth + (k >> 2)) << 6) + (k & 3);
      for (let f: u32 = 0; f < 16; f++) {
        const inside = k < components && (block << 4) + f < features;
        store<u8>(at + (f << 2), <u8> ((inside ? <i32> load<i8>(row + f) : 0) + shift));
      }
    }
  }
}
