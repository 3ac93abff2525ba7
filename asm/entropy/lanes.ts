// Vector forms that differ between builds, and shuffles that move the 16-bit words of four lanes.

/** Bytes of `a` at the places in `s`; 0 where a place has its top bit set. Places from 16 to 127 must not occur. */
// @ts-ignore: decorator
@inline
export function swizzle(a: v128, s: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i8x16.relaxed_swizzle(a, s);
  return i8x16.swizzle(a, s);
}

/** Lanes of `a` where `mask` is all ones, of `b` where it is all zeros. */
// @ts-ignore: decorator
@inline
export function select(a: v128, b: v128, mask: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_laneselect(a, b, mask);
  return v128.bitselect(a, b, mask);
}

/** By a mask of four lanes: the shuffle that spreads words 0, 1, … over the lower halves of the lanes in the mask. */
export const SPREAD: usize = memory.data(256, 16);
/** By a mask of four lanes: the shuffle that packs the lower halves of the lanes not in the mask at the end of 8 bytes. */
export const PACK: usize = memory.data(256, 16);

for (let mask: u32 = 0; mask < 16; mask++) {
  const spread = SPREAD + (mask << 4), pack = PACK + (mask << 4);
  memory.fill(spread, 0x80, 16);
  memory.fill(pack, 0x80, 16);
  let taken: u32 = 0, given: u32 = popcnt(mask);
  for (let lane: u32 = 0; lane < 4; lane++) {
    if ((mask >> lane) & 1) {
      store<u16>(spread + (lane << 2), (taken << 1) | (((taken << 1) | 1) << 8));
      taken++;
    } else {
      store<u16>(pack + (given << 1), (lane << 2) | (((lane << 2) | 1) << 8));
      given++;
    }
  }
}
