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
export function laneselect(a: v128, b: v128, mask: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_laneselect(a, b, mask);
  return v128.bitselect(a, b, mask);
}

// Constants lie in memory: a load costs an engine less than building a vector anew, which it does wherever one is used.

/** 255 in lanes of 32 bits. */
export const BYTE: usize = memory.data<u32>([255, 255, 255, 255], 16);
/** 1 in all bytes. */
export const ONES: usize = memory.data<u64>([0x0101010101010101, 0x0101010101010101], 16);
/** 3 in all bytes. */
export const THREES: usize = memory.data<u64>([0x0303030303030303, 0x0303030303030303], 16);
/** 2^23 as binary32. */
export const MAGIC: usize = memory.data<u32>([0x4b000000, 0x4b000000, 0x4b000000, 0x4b000000], 16);
/** The lower halves of lanes of 32 bits. */
export const WORD: usize = memory.data<u32>([0xffff, 0xffff, 0xffff, 0xffff], 16);
/** 2^11 and 2^12 in lanes of 32 bits. */
export const SIZE_11: usize = memory.data<u32>([2048, 2048, 2048, 2048], 16);
export const SIZE_12: usize = memory.data<u32>([4096, 4096, 4096, 4096], 16);
/** The shuffles that move bytes 4i … 4i + 3 to the second bytes of the lanes, for i = 0 … 3. */
export const PLACES: usize = memory.data(64, 16);
/** By a mask of eight lanes: the shuffle that spreads words 0, 1, … over the lanes in the mask, u16 [8]. */
export const SPREAD: usize = memory.data(4096, 16);
/** By a mask of four lanes: the shuffle that packs the lower halves of the lanes not in the mask at the end of 8 bytes. */
export const PACK: usize = memory.data(256, 16);

/** By a mask of eight lanes: the shuffle that packs the words not in the mask at the end of 16 bytes. */
export const PACK8: usize = memory.data(4096, 16);

memory.fill(PLACES, 0x80, 64);
for (let i: usize = 0; i < 16; i++) store<u8>(PLACES + (i << 2), <u8>i, 1);
for (let mask: u32 = 0; mask < 256; mask++) {
  const spread = SPREAD + (mask << 4);
  for (let lane: u32 = 0, word: u32 = 0; lane < 8; lane++) {
    store<u16>(spread + (lane << 1), (mask >> lane) & 1 ? 0x0100 + 0x0202 * word++ : 0x8080);
  }
}
for (let mask: u32 = 0; mask < 16; mask++) {
  const pack = PACK + (mask << 4);
  memory.fill(pack, 0x80, 16);
  for (let lane: u32 = 0, word: u32 = popcnt(mask); lane < 4; lane++) {
    if (!((mask >> lane) & 1)) store<u16>(pack + (word++ << 1), 0x0100 + 0x0404 * lane);
  }
}
for (let mask: u32 = 0; mask < 256; mask++) {
  const pack = PACK8 + (mask << 4);
  memory.fill(pack, 0x80, 16);
  for (let lane: u32 = 0, word: u32 = popcnt(mask); lane < 8; lane++) {
    if (!((mask >> lane) & 1)) store<u16>(pack + (word++ << 1), 0x0100 + 0x0202 * lane);
  }
}
