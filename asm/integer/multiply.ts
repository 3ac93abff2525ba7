// The exact product: sums i32 [tokens][stride] = Σ_k basis[k][feature] · level[k][token], 16 features and one token at a
// time, with SIMD three (wide_tile.ts), with relaxed SIMD five or four (dot_tile.ts, pair_tile.ts), the tile of the basis
// in the first-level cache.

import { tokensAtOnce, useDots } from "./dots";
import { dotTile } from "./dot_tile";
import { pairTile } from "./pair_tile";
import { runBytes } from "./levels";
import { wideTile } from "./wide_tile";

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
        wideTile(tile, depth, low + ((t * depth) << 3), row, stride << 2);
      } else {
        scalarTile(tile, depth, low, t, to, stride);
      }
      plane += (depth * group) << 2;
      runs += runBytes(depth);
    }
  }
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
