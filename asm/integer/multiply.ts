// The exact product: sums i32 [tokens][stride] = Σ_k basis[k][feature] · level[k][token], 16 features and one token at a
// time, with relaxed SIMD five or four (dot_tile.ts, pair_tile.ts), the tile of the basis in the first-level cache.

import { tokensAtOnce, useDots } from "./dots";
import { dotTile } from "./dot_tile";
import { pairTile } from "./pair_tile";
import { runBytes } from "./levels";

/**
 * Blocks [begin, end) of 16 features, for `tokens` tokens (a multiple of tokensAtOnce); `tileDepth` is k / 4 of the basis,
 * `depth` that of the levels, no more; planes, their runs and sums as of packLevels. out: row t begins at t · stride
 * elements.
 */
export function multiply(
  tiles: usize,
  tileDepth: u32,
  depth: u32,
  low: usize,
  high: usize,
  lowRuns: usize,
  highRuns: usize,
  sums: usize,
  tokens: u32,
  begin: u32,
  end: u32,
  out: usize,
  stride: u32,
): void {
  const group = tokensAtOnce();
  for (let block = begin; block < end; block++) {
    const tile = tiles + ((block * tileDepth) << 6);
    const to = out + (((block - begin) << 4) << 2);
    for (let t: u32 = 0, plane: usize = 0, runs: usize = 0; t < tokens; t += group) {
      const row = to + ((t * stride) << 2), totals = sums + (t << 2);
      if (useDots()) {
        dotTile(tile, low + plane, high + plane, load<u16>(lowRuns + runs), load<u16>(highRuns + runs), totals, row, stride << 2);
      } else if (ASC_FEATURE_RELAXED_SIMD) {
        pairTile(tile, low + plane, high + plane, lowRuns + runs, highRuns + runs, totals, row, stride << 2);
      } else if (ASC_FEATURE_SIMD) {
        simdTile(tile, depth, low, t, to, stride);
      } else {
        scalarTile(tile, depth, low, t, to, stride);
      }
      plane += (depth * group) << 2;
      runs += runBytes(depth);
    }
  }
}

/** One token × 16 features, in pairs of products: every accumulator holds two halves of two features. */
function simdTile(tile: usize, depth: u32, levels: usize, t: u32, to: usize, stride: u32): void {
  let a0 = i32x4.splat(0), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
  let at = levels + ((t * (depth << 2)) << 1);
  for (let k: u32 = 0; k < depth; k++) {
    const l = v128.load64_splat(at);
    const b0 = v128.load(tile), b1 = v128.load(tile, 16), b2 = v128.load(tile, 32), b3 = v128.load(tile, 48);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(b0), l));
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(b0), l));
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(b1), l));
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(b1), l));
    a4 = i32x4.add(a4, i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(b2), l));
    a5 = i32x4.add(a5, i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(b2), l));
    a6 = i32x4.add(a6, i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(b3), l));
    a7 = i32x4.add(a7, i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(b3), l));
    tile += 64;
    at += 8;
  }
  to += (t * stride) << 2;
  v128.store(to, fold(a0, a1), 0);
  v128.store(to, fold(a2, a3), 16);
  v128.store(to, fold(a4, a5), 32);
  v128.store(to, fold(a6, a7), 48);
}

/** Sums of neighbours. */
// @ts-ignore: decorator
@inline
function fold(a: v128, b: v128): v128 {
  return i32x4.add(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(a, b, 1, 3, 5, 7));
}

function scalarTile(tile: usize, depth: u32, levels: usize, t: u32, to: usize, stride: u32): void {
  const at = levels + ((t * (depth << 2)) << 1);
  for (let f: u32 = 0; f < 16; f++) {
    let sum = 0;
    for (let k: u32 = 0; k < depth; k++) {
      const b = tile + (k << 6) + (f << 2), l = at + (k << 3);
      sum += <i32> load<i8>(b) * <i32> load<i16>(l);
      sum += <i32> load<i8>(b, 1) * <i32> load<i16>(l, 2);
      sum += <i32> load<i8>(b, 2) * <i32> load<i16>(l, 4);
      sum += <i32> load<i8>(b, 3) * <i32> load<i16>(l, 6);
    }
    store<i32>(to + ((t * stride + f) << 2), sum);
  }
}
