// The basis on the device: binary16 in tiles of 8 components × 8 features, [component block][feature block][8][8],
// padded with zeros. Both products read it, each converting the tiles to f32 panels of width 8 as it goes.
//
// Entries are stored 2^14 times as large. Rows are orthonormal, so |entry| ≤ 1 and the product is exact; binary16
// subnormals become normal, and one multiplication converts an entry: the bits, moved up, read as an f32 2^98 times too
// small.
import { F16, f16ToF32, f32ToF16, load4, store4 } from "./lanes";

/** Tile edge. */
export const EDGE: usize = 8;
/** Bytes of a tile. */
export const TILE_BYTES: usize = 128;
/** 2^(112 − 14), as bits. */
const SCALE: u32 = (127 + 98) << 23;
/** In memory, for vectors: sign and fraction of an entry that has been moved up, and the scale. */
const KEPT: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x8fffe000], 4) : 0;
const SCALES: usize = ASC_FEATURE_SIMD ? memory.data<u32>([0x70800000], 4) : 0;

/**
 * Tiles `count` ≤ 8 basis rows, binary16 [count][features], to dst [feature blocks][8][8]. Returns the largest
 * magnitude as binary16 bits; at 4 (0x4400) and above the tiles are not valid.
 */
export function tileBasis(src: usize, count: usize, features: usize, dst: usize): u32 {
  const blocks = (features + EDGE - 1) / EDGE;
  memory.fill(dst, 0, blocks * TILE_BYTES);
  let largest: u32 = 0;
  for (let c: usize = 0; c < count; c++) {
    const row = src + c * features * 2;
    for (let f: usize = 0; f < features; f++) {
      largest = max(largest, <u32>load<u16>(row + f * 2) & 0x7fff);
    }
    for (let f: usize = 0; f < features; f += EDGE) {
      const from = row + f * 2;
      const to = dst + f / EDGE * TILE_BYTES + c * EDGE * 2;
      let i: usize = 0;
      const n = min(EDGE, features - f);
      if (ASC_FEATURE_SIMD) {
        for (; i + 4 <= n; i += 4) store4(F16, to, i, f32x4.mul(load4(F16, from, i), f32x4.splat(16384)));
      }
      for (; i < n; i++) store<u16>(to + i * 2, f32ToF16(f16ToF32(load<u16>(from + i * 2)) * 16384));
    }
  }
  return largest;
}

/** Four entries, sign-extended to 32 bits, as f32. */
// @ts-ignore: decorator
@inline
function entries(bits: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(bits, 13), v128.load32_splat(KEPT)), v128.load32_splat(SCALES));
}

// @ts-ignore: decorator
@inline
function entry(bits: i32): f32 {
  return reinterpret<f32>((bits << 13) & 0x8fffe000) * reinterpret<f32>(SCALE);
}

// @ts-ignore: decorator
@inline
function put8(to: usize, bits: v128): void {
  v128.store(to, entries(i32x4.extend_low_i16x8_s(bits)));
  v128.store(to, entries(i32x4.extend_high_i16x8_s(bits)), 16);
}

/** `count` tiles, `step` bytes apart, one below the other: f32 panel [8 · count components][8 features]. */
export function panelOfComponents(tiles: usize, count: usize, step: usize, panel: usize): void {
  for (; count > 0; count--, tiles += step, panel += 256) {
    if (ASC_FEATURE_SIMD) {
      for (let i: usize = 0; i < 8; i++) put8(panel + i * 32, v128.load(tiles + i * 16));
    } else {
      for (let i: usize = 0; i < 64; i++) store<f32>(panel + i * 4, entry(load<i16>(tiles + i * 2)));
    }
  }
}

/** `count` adjoining tiles, each transposed: f32 panel [8 · count features][8 components]. */
export function panelOfFeatures(tiles: usize, count: usize, panel: usize): void {
  for (; count > 0; count--, tiles += TILE_BYTES, panel += 256) {
    if (ASC_FEATURE_SIMD) {
      // Three rounds of interleaving rows i and i + 4 transpose 8 × 8.
      let a0 = v128.load(tiles), a1 = v128.load(tiles, 16), a2 = v128.load(tiles, 32), a3 = v128.load(tiles, 48);
      let a4 = v128.load(tiles, 64), a5 = v128.load(tiles, 80), a6 = v128.load(tiles, 96), a7 = v128.load(tiles, 112);
      for (let round = 0; round < 3; round++) {
        const b0 = low(a0, a4), b1 = high(a0, a4), b2 = low(a1, a5), b3 = high(a1, a5);
        const b4 = low(a2, a6), b5 = high(a2, a6), b6 = low(a3, a7), b7 = high(a3, a7);
        a0 = b0, a1 = b1, a2 = b2, a3 = b3, a4 = b4, a5 = b5, a6 = b6, a7 = b7;
      }
      put8(panel, a0), put8(panel + 32, a1), put8(panel + 64, a2), put8(panel + 96, a3);
      put8(panel + 128, a4), put8(panel + 160, a5), put8(panel + 192, a6), put8(panel + 224, a7);
    } else {
      for (let c: usize = 0; c < 8; c++) {
        for (let f: usize = 0; f < 8; f++) {
          store<f32>(panel + (f * 8 + c) * 4, entry(load<i16>(tiles + (c * 8 + f) * 2)));
        }
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function low(a: v128, b: v128): v128 {
  return v128.shuffle<u16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}

// @ts-ignore: decorator
@inline
function high(a: v128, b: v128): v128 {
  return v128.shuffle<u16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
