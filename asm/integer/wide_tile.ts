// The exact product without relaxed SIMD: levels of 16 bits, the basis widened to as many, sums of pairs in 32 bits. What is
// widened serves three tokens; with 8 features at a time that is twelve sums.

/** Three tokens × 16 features; levels i16 [tokens][depth · 4]; `to` is the first token's row, `step` bytes from row to row. */
export function wideTile(tile: usize, depth: u32, levels: usize, to: usize, step: usize): void {
  wideHalf(tile, depth, levels, to, step);
  wideHalf(tile + 32, depth, levels, to + 32, step);
}

function wideHalf(tile: usize, depth: u32, levels: usize, to: usize, step: usize): void {
  const zero = i32x4.splat(0);
  // Four a token: each holds two halves of two features.
  let a00 = zero, a01 = zero, a02 = zero, a03 = zero, a10 = zero, a11 = zero, a12 = zero, a13 = zero;
  let a20 = zero, a21 = zero, a22 = zero, a23 = zero;
  let b: v128, wide: v128, l0: v128, l1: v128, l2: v128;
  let p0 = levels, p1 = p0 + (depth << 3), p2 = p1 + (depth << 3);
  // Two steps of the depth a round, kept apart as in dot_tile.ts.
  for (const end = tile + (depth << 6); tile < end; tile += 64, p0 += 8, p1 += 8, p2 += 8) {
    l0 = v128.load64_splat(p0), l1 = v128.load64_splat(p1), l2 = v128.load64_splat(p2);
    b = v128.load(tile);
    wide = i16x8.extend_low_i8x16_s(b);
    a00 = i32x4.add(a00, i32x4.dot_i16x8_s(wide, l0));
    a10 = i32x4.add(a10, i32x4.dot_i16x8_s(wide, l1));
    a20 = i32x4.add(a20, i32x4.dot_i16x8_s(wide, l2));
    wide = i16x8.extend_high_i8x16_s(b);
    a01 = i32x4.add(a01, i32x4.dot_i16x8_s(wide, l0));
    a11 = i32x4.add(a11, i32x4.dot_i16x8_s(wide, l1));
    a21 = i32x4.add(a21, i32x4.dot_i16x8_s(wide, l2));
    b = v128.load(tile, 16);
    wide = i16x8.extend_low_i8x16_s(b);
    a02 = i32x4.add(a02, i32x4.dot_i16x8_s(wide, l0));
    a12 = i32x4.add(a12, i32x4.dot_i16x8_s(wide, l1));
    a22 = i32x4.add(a22, i32x4.dot_i16x8_s(wide, l2));
    wide = i16x8.extend_high_i8x16_s(b);
    a03 = i32x4.add(a03, i32x4.dot_i16x8_s(wide, l0));
    a13 = i32x4.add(a13, i32x4.dot_i16x8_s(wide, l1));
    a23 = i32x4.add(a23, i32x4.dot_i16x8_s(wide, l2));
    tile += 64, p0 += 8, p1 += 8, p2 += 8;
    if (tile == end) break;
    l0 = v128.load64_splat(p0), l1 = v128.load64_splat(p1), l2 = v128.load64_splat(p2);
    b = v128.load(tile);
    wide = i16x8.extend_low_i8x16_s(b);
    a00 = i32x4.add(a00, i32x4.dot_i16x8_s(wide, l0));
    a10 = i32x4.add(a10, i32x4.dot_i16x8_s(wide, l1));
    a20 = i32x4.add(a20, i32x4.dot_i16x8_s(wide, l2));
    wide = i16x8.extend_high_i8x16_s(b);
    a01 = i32x4.add(a01, i32x4.dot_i16x8_s(wide, l0));
    a11 = i32x4.add(a11, i32x4.dot_i16x8_s(wide, l1));
    a21 = i32x4.add(a21, i32x4.dot_i16x8_s(wide, l2));
    b = v128.load(tile, 16);
    wide = i16x8.extend_low_i8x16_s(b);
    a02 = i32x4.add(a02, i32x4.dot_i16x8_s(wide, l0));
    a12 = i32x4.add(a12, i32x4.dot_i16x8_s(wide, l1));
    a22 = i32x4.add(a22, i32x4.dot_i16x8_s(wide, l2));
    wide = i16x8.extend_high_i8x16_s(b);
    a03 = i32x4.add(a03, i32x4.dot_i16x8_s(wide, l0));
    a13 = i32x4.add(a13, i32x4.dot_i16x8_s(wide, l1));
    a23 = i32x4.add(a23, i32x4.dot_i16x8_s(wide, l2));
  }
  v128.store(to, fold(a00, a01));
  v128.store(to, fold(a02, a03), 16);
  to += step;
  v128.store(to, fold(a10, a11));
  v128.store(to, fold(a12, a13), 16);
  to += step;
  v128.store(to, fold(a20, a21));
  v128.store(to, fold(a22, a23), 16);
}

/** Sums of neighbours. */
// @ts-ignore: decorator
@inline
function fold(a: v128, b: v128): v128 {
  return i32x4.add(v128.shuffle<i32>(a, b, 0, 2, 4, 6), v128.shuffle<i32>(a, b, 1, 3, 5, 7));
}
