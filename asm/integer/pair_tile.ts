// The exact product with sums of pairs in 16 bits (dots.ts): 4 tokens × 8 features at a time. Eight sums, two vectors of the
// basis and the levels of all four tokens, which one load brings: engines that check every load's bounds (Deno's) spend as
// much on it as on a product.

/**
 * Four tokens × 16 features; the basis holds 64 more than it means. Planes of the tokens and their runs (levels.ts), sums of
 * their levels; `to` is the first one's row, `step` bytes from row to row.
 */
export function pairTile(
  tile: usize,
  low: usize,
  high: usize,
  lowRuns: usize,
  highRuns: usize,
  sums: usize,
  to: usize,
  step: usize,
): void {
  pairHalf(tile, low, high, lowRuns, highRuns, sums, to, step);
  pairHalf(tile + 32, low, high, lowRuns, highRuns, sums, to + 32, step);
}

function pairHalf(
  tile: usize,
  low: usize,
  high: usize,
  lowRuns: usize,
  highRuns: usize,
  sums: usize,
  to: usize,
  step: usize,
): void {
  const zero = i32x4.splat(0);
  // Totals in 32 bits, which wait outside the registers while a run is added up.
  let s00 = zero, s01 = zero, s10 = zero, s11 = zero, s20 = zero, s21 = zero, s30 = zero, s31 = zero;
  let p = high, runs = highRuns;
  for (let plane = 0; plane < 2; plane++) {
    let b = tile;
    for (let n: u32 = load<u16>(runs); n != 0; n = load<u16>(runs)) {
      runs += 2;
      let a00 = zero, a01 = zero, a10 = zero, a11 = zero, a20 = zero, a21 = zero, a30 = zero, a31 = zero;
      let b0: v128, b1: v128, x: v128, l: v128;
      const end = b + (n << 6);
      // Two steps of the depth a round. The way out between them also keeps engines from mixing their instructions, for which
      // there are too few registers.
      while (true) {
        l = v128.load(p), b0 = v128.load(b), b1 = v128.load(b, 16);
        x = v128.shuffle<i32>(l, l, 0, 0, 0, 0);
        a00 = i16x8.add(a00, v128.relaxed_dot<i16>(x, b0)), a01 = i16x8.add(a01, v128.relaxed_dot<i16>(x, b1));
        x = v128.shuffle<i32>(l, l, 1, 1, 1, 1);
        a10 = i16x8.add(a10, v128.relaxed_dot<i16>(x, b0)), a11 = i16x8.add(a11, v128.relaxed_dot<i16>(x, b1));
        x = v128.shuffle<i32>(l, l, 2, 2, 2, 2);
        a20 = i16x8.add(a20, v128.relaxed_dot<i16>(x, b0)), a21 = i16x8.add(a21, v128.relaxed_dot<i16>(x, b1));
        x = v128.shuffle<i32>(l, l, 3, 3, 3, 3);
        a30 = i16x8.add(a30, v128.relaxed_dot<i16>(x, b0)), a31 = i16x8.add(a31, v128.relaxed_dot<i16>(x, b1));
        if (b + 64 >= end) break;
        l = v128.load(p, 16), b0 = v128.load(b, 64), b1 = v128.load(b, 80);
        x = v128.shuffle<i32>(l, l, 0, 0, 0, 0);
        a00 = i16x8.add(a00, v128.relaxed_dot<i16>(x, b0)), a01 = i16x8.add(a01, v128.relaxed_dot<i16>(x, b1));
        x = v128.shuffle<i32>(l, l, 1, 1, 1, 1);
        a10 = i16x8.add(a10, v128.relaxed_dot<i16>(x, b0)), a11 = i16x8.add(a11, v128.relaxed_dot<i16>(x, b1));
        x = v128.shuffle<i32>(l, l, 2, 2, 2, 2);
        a20 = i16x8.add(a20, v128.relaxed_dot<i16>(x, b0)), a21 = i16x8.add(a21, v128.relaxed_dot<i16>(x, b1));
        x = v128.shuffle<i32>(l, l, 3, 3, 3, 3);
        a30 = i16x8.add(a30, v128.relaxed_dot<i16>(x, b0)), a31 = i16x8.add(a31, v128.relaxed_dot<i16>(x, b1));
        b += 128, p += 32;
        if (b >= end) break;
      }
      if (b < end) p += 16;
      b = end;
      s00 = i32x4.add(s00, i32x4.extadd_pairwise_i16x8_s(a00)), s01 = i32x4.add(s01, i32x4.extadd_pairwise_i16x8_s(a01));
      s10 = i32x4.add(s10, i32x4.extadd_pairwise_i16x8_s(a10)), s11 = i32x4.add(s11, i32x4.extadd_pairwise_i16x8_s(a11));
      s20 = i32x4.add(s20, i32x4.extadd_pairwise_i16x8_s(a20)), s21 = i32x4.add(s21, i32x4.extadd_pairwise_i16x8_s(a21));
      s30 = i32x4.add(s30, i32x4.extadd_pairwise_i16x8_s(a30)), s31 = i32x4.add(s31, i32x4.extadd_pairwise_i16x8_s(a31));
    }
    if (plane == 0) {
      // 256 times the high bytes' sums, less 64 times those of the levels, for the 64 that the basis has too much.
      let x = i32x4.shl(v128.load32_splat(sums), 6);
      s00 = i32x4.sub(i32x4.shl(s00, 8), x), s01 = i32x4.sub(i32x4.shl(s01, 8), x);
      x = i32x4.shl(v128.load32_splat(sums, 4), 6);
      s10 = i32x4.sub(i32x4.shl(s10, 8), x), s11 = i32x4.sub(i32x4.shl(s11, 8), x);
      x = i32x4.shl(v128.load32_splat(sums, 8), 6);
      s20 = i32x4.sub(i32x4.shl(s20, 8), x), s21 = i32x4.sub(i32x4.shl(s21, 8), x);
      x = i32x4.shl(v128.load32_splat(sums, 12), 6);
      s30 = i32x4.sub(i32x4.shl(s30, 8), x), s31 = i32x4.sub(i32x4.shl(s31, 8), x);
      p = low, runs = lowRuns;
    }
  }
  v128.store(to, s00);
  v128.store(to, s01, 16);
  to += step;
  v128.store(to, s10);
  v128.store(to, s11, 16);
  to += step;
  v128.store(to, s20);
  v128.store(to, s21, 16);
  to += step;
  v128.store(to, s30);
  v128.store(to, s31, 16);
}
