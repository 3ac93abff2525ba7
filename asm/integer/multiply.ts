// The exact product: sums i32 [tokens][stride] = Σ_k basis[k][feature] · level[k][token], 16 features and one, two or (with
// sums of 32 bits, dot_tile.ts) six tokens at a time, the tile of the basis in the first-level cache.

import { GROUP, useDots } from "./dots";
import { dotTile } from "./dot_tile";
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
  for (let block = begin; block < end; block++) {
    const tile = tiles + ((block * tileDepth) << 6);
    const to = out + (((block - begin) << 4) << 2);
    if (useDots()) {
      for (let t: u32 = 0, group: u32 = 0; t < tokens; t += GROUP, group++) {
        dotTile(
          tile,
          low + group * depth * (GROUP * 4),
          high + group * depth * (GROUP * 4),
          load<u16>(lowRuns + (group << 1)),
          load<u16>(highRuns + (group << 1)),
          sums + (t << 2),
          to + ((t * stride) << 2),
          stride << 2,
        );
      }
    } else if (ASC_FEATURE_RELAXED_SIMD) {
      for (let t: u32 = 0; t < tokens; t += 2) relaxedTile(tile, depth, low, high, lowRuns, highRuns, sums, t, to, stride);
    } else if (ASC_FEATURE_SIMD) {
      for (let t: u32 = 0; t < tokens; t++) simdTile(tile, depth, low, t, to, stride);
    } else {
      for (let t: u32 = 0; t < tokens; t++) scalarTile(tile, depth, low, t, to, stride);
    }
  }
}

/** Two tokens × 16 features; the basis holds 64 more than it means. */
function relaxedTile(
  tile: usize,
  depth: u32,
  low: usize,
  high: usize,
  lowRuns: usize,
  highRuns: usize,
  sums: usize,
  t: u32,
  to: usize,
  stride: u32,
): void {
  const width = depth << 2, plane = t * width, runs = (t >> 1) * runBytes(depth);
  const row = to + ((t * stride) << 2), step = stride << 2;
  clearRow(row);
  clearRow(row + step);
  if (load<u16>(highRuns + runs)) addRuns(tile, high + plane, width, highRuns + runs, row, step);
  raiseRow(row, i32x4.shl(v128.load32_splat(sums + (t << 2)), 6));
  raiseRow(row + step, i32x4.shl(v128.load32_splat(sums + (t << 2), 4), 6));
  addRuns(tile, low + plane, width, lowRuns + runs, row, step);
}

function clearRow(row: usize): void {
  const zero = i32x4.splat(0);
  v128.store(row, zero, 0);
  v128.store(row, zero, 16);
  v128.store(row, zero, 32);
  v128.store(row, zero, 48);
}

/** row · 256 − less */
function raiseRow(row: usize, less: v128): void {
  v128.store(row, i32x4.sub(i32x4.shl(v128.load(row, 0), 8), less), 0);
  v128.store(row, i32x4.sub(i32x4.shl(v128.load(row, 16), 8), less), 16);
  v128.store(row, i32x4.sub(i32x4.shl(v128.load(row, 32), 8), less), 32);
  v128.store(row, i32x4.sub(i32x4.shl(v128.load(row, 48), 8), less), 48);
}

/**
 * Adds a plane's products to two rows. Within a run sums of pairs fit 16 bits (levels.ts), which takes one addition for
 * 16 products instead of two.
 */
// @ts-ignore: decorator
@inline
function addRuns(b: usize, p0: usize, width: usize, runs: usize, row0: usize, step: usize): void {
  const row1 = row0 + step;
  let p1 = p0 + width;
  for (let n: u32 = load<u16>(runs); n != 0; n = load<u16>(runs)) {
    runs += 2;
    let a00 = i16x8.splat(0), a01 = a00, a02 = a00, a03 = a00, a10 = a00, a11 = a00, a12 = a00, a13 = a00;
    let b0: v128, b1: v128, b2: v128, b3: v128, l0: v128, l1: v128;
    const end = b + (n << 6);
    // Two steps of the depth a round: a tenth of the instructions of one are the loop's.
    while (true) {
      b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32), b3 = v128.load(b, 48);
      l0 = v128.load32_splat(p0), l1 = v128.load32_splat(p1);
      a00 = i16x8.add(a00, v128.relaxed_dot<i16>(l0, b0));
      a01 = i16x8.add(a01, v128.relaxed_dot<i16>(l0, b1));
      a02 = i16x8.add(a02, v128.relaxed_dot<i16>(l0, b2));
      a03 = i16x8.add(a03, v128.relaxed_dot<i16>(l0, b3));
      a10 = i16x8.add(a10, v128.relaxed_dot<i16>(l1, b0));
      a11 = i16x8.add(a11, v128.relaxed_dot<i16>(l1, b1));
      a12 = i16x8.add(a12, v128.relaxed_dot<i16>(l1, b2));
      a13 = i16x8.add(a13, v128.relaxed_dot<i16>(l1, b3));
      if (b + 64 >= end) break;
      b0 = v128.load(b, 64), b1 = v128.load(b, 80), b2 = v128.load(b, 96), b3 = v128.load(b, 112);
      l0 = v128.load32_splat(p0, 4), l1 = v128.load32_splat(p1, 4);
      a00 = i16x8.add(a00, v128.relaxed_dot<i16>(l0, b0));
      a01 = i16x8.add(a01, v128.relaxed_dot<i16>(l0, b1));
      a02 = i16x8.add(a02, v128.relaxed_dot<i16>(l0, b2));
      a03 = i16x8.add(a03, v128.relaxed_dot<i16>(l0, b3));
      a10 = i16x8.add(a10, v128.relaxed_dot<i16>(l1, b0));
      a11 = i16x8.add(a11, v128.relaxed_dot<i16>(l1, b1));
      a12 = i16x8.add(a12, v128.relaxed_dot<i16>(l1, b2));
      a13 = i16x8.add(a13, v128.relaxed_dot<i16>(l1, b3));
      b += 128, p0 += 8, p1 += 8;
      if (b >= end) break;
    }
    if (b < end) p0 += 4, p1 += 4;
    b = end;
    addPairs(row0, 0, a00);
    addPairs(row0, 16, a01);
    addPairs(row0, 32, a02);
    addPairs(row0, 48, a03);
    addPairs(row1, 0, a10);
    addPairs(row1, 16, a11);
    addPairs(row1, 32, a12);
    addPairs(row1, 48, a13);
  }
}

// @ts-ignore: decorator
@inline
function addPairs(row: usize, at: usize, a: v128): void {
  v128.store(row + at, i32x4.add(v128.load(row + at), i32x4.extadd_pairwise_i16x8_s(a)));
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
