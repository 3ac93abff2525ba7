// The exact product with sums of 32 bits (dots.ts): 5 tokens × 8 features at a time. Ten sums, two vectors of the basis, one of
// levels and one of copies of a level are 14 of the 15 registers that x86-64 engines have. Engines that check bounds (Deno's)
// pay for every load, a check of which takes the place of a product: a vector of levels brings those of eight products.

/**
 * Five tokens × 16 features; the basis holds 64 more than it means. Planes of the tokens and how deep they are, sums of their
 * levels; `to` is the first one's row, `step` bytes from row to row. Up to 12 bytes are read beyond a plane.
 */
export function dotTile(
  tile: usize,
  low: usize,
  high: usize,
  lowDepth: u32,
  highDepth: u32,
  sums: usize,
  to: usize,
  step: usize,
): void {
  dotHalf(tile, low, high, lowDepth, highDepth, sums, to, step);
  dotHalf(tile + 32, low, high, lowDepth, highDepth, sums, to + 32, step);
}

function dotHalf(
  tile: usize,
  low: usize,
  high: usize,
  lowDepth: u32,
  highDepth: u32,
  sums: usize,
  to: usize,
  step: usize,
): void {
  const zero = i32x4.splat(0);
  let a00 = zero, a01 = zero, a10 = zero, a11 = zero, a20 = zero, a21 = zero;
  let a30 = zero, a31 = zero, a40 = zero, a41 = zero;
  let b0: v128, b1: v128, x: v128, l: v128;
  let p = high;
  for (let b = tile, end = tile + (highDepth << 6); b < end; b += 64, p += 20) {
    b0 = v128.load(b), b1 = v128.load(b, 16);
    x = v128.load32_splat(p);
    a00 = v128.relaxed_dot_add<i32>(x, b0, a00), a01 = v128.relaxed_dot_add<i32>(x, b1, a01);
    x = v128.load32_splat(p, 4);
    a10 = v128.relaxed_dot_add<i32>(x, b0, a10), a11 = v128.relaxed_dot_add<i32>(x, b1, a11);
    x = v128.load32_splat(p, 8);
    a20 = v128.relaxed_dot_add<i32>(x, b0, a20), a21 = v128.relaxed_dot_add<i32>(x, b1, a21);
    x = v128.load32_splat(p, 12);
    a30 = v128.relaxed_dot_add<i32>(x, b0, a30), a31 = v128.relaxed_dot_add<i32>(x, b1, a31);
    x = v128.load32_splat(p, 16);
    a40 = v128.relaxed_dot_add<i32>(x, b0, a40), a41 = v128.relaxed_dot_add<i32>(x, b1, a41);
  }
  // 256 times the high bytes' sums, less 64 times those of the levels, for the 64 that the basis has too much.
  x = i32x4.shl(v128.load32_splat(sums), 6);
  a00 = i32x4.sub(i32x4.shl(a00, 8), x), a01 = i32x4.sub(i32x4.shl(a01, 8), x);
  x = i32x4.shl(v128.load32_splat(sums, 4), 6);
  a10 = i32x4.sub(i32x4.shl(a10, 8), x), a11 = i32x4.sub(i32x4.shl(a11, 8), x);
  x = i32x4.shl(v128.load32_splat(sums, 8), 6);
  a20 = i32x4.sub(i32x4.shl(a20, 8), x), a21 = i32x4.sub(i32x4.shl(a21, 8), x);
  x = i32x4.shl(v128.load32_splat(sums, 12), 6);
  a30 = i32x4.sub(i32x4.shl(a30, 8), x), a31 = i32x4.sub(i32x4.shl(a31, 8), x);
  x = i32x4.shl(v128.load32_splat(sums, 16), 6);
  a40 = i32x4.sub(i32x4.shl(a40, 8), x), a41 = i32x4.sub(i32x4.shl(a41, 8), x);
  p = low;
  // Four steps of the depth a round, five vectors of levels. The ends between them keep compilers from doing the steps of one
  // sum after another, which takes more registers than there are; pointers move from step to step, that checks of bounds have
  // few limits. The high plane is seldom deep.
  for (let b = tile, end = tile + (lowDepth << 6); b < end; b += 64, p += 80) {
    b0 = v128.load(b), b1 = v128.load(b, 16);
    l = v128.load(p);
    x = v128.shuffle<i32>(l, l, 0, 0, 0, 0);
    a00 = v128.relaxed_dot_add<i32>(x, b0, a00), a01 = v128.relaxed_dot_add<i32>(x, b1, a01);
    x = v128.shuffle<i32>(l, l, 1, 1, 1, 1);
    a10 = v128.relaxed_dot_add<i32>(x, b0, a10), a11 = v128.relaxed_dot_add<i32>(x, b1, a11);
    x = v128.shuffle<i32>(l, l, 2, 2, 2, 2);
    a20 = v128.relaxed_dot_add<i32>(x, b0, a20), a21 = v128.relaxed_dot_add<i32>(x, b1, a21);
    x = v128.shuffle<i32>(l, l, 3, 3, 3, 3);
    a30 = v128.relaxed_dot_add<i32>(x, b0, a30), a31 = v128.relaxed_dot_add<i32>(x, b1, a31);
    l = v128.load(p, 16);
    x = v128.shuffle<i32>(l, l, 0, 0, 0, 0);
    a40 = v128.relaxed_dot_add<i32>(x, b0, a40), a41 = v128.relaxed_dot_add<i32>(x, b1, a41);
    b += 64;
    if (b == end) break;
    b0 = v128.load(b), b1 = v128.load(b, 16);
    x = v128.shuffle<i32>(l, l, 1, 1, 1, 1);
    a00 = v128.relaxed_dot_add<i32>(x, b0, a00), a01 = v128.relaxed_dot_add<i32>(x, b1, a01);
    x = v128.shuffle<i32>(l, l, 2, 2, 2, 2);
    a10 = v128.relaxed_dot_add<i32>(x, b0, a10), a11 = v128.relaxed_dot_add<i32>(x, b1, a11);
    x = v128.shuffle<i32>(l, l, 3, 3, 3, 3);
    a20 = v128.relaxed_dot_add<i32>(x, b0, a20), a21 = v128.relaxed_dot_add<i32>(x, b1, a21);
    l = v128.load(p, 32);
    x = v128.shuffle<i32>(l, l, 0, 0, 0, 0);
    a30 = v128.relaxed_dot_add<i32>(x, b0, a30), a31 = v128.relaxed_dot_add<i32>(x, b1, a31);
    x = v128.shuffle<i32>(l, l, 1, 1, 1, 1);
    a40 = v128.relaxed_dot_add<i32>(x, b0, a40), a41 = v128.relaxed_dot_add<i32>(x, b1, a41);
    b += 64;
    if (b == end) break;
    b0 = v128.load(b), b1 = v128.load(b, 16);
    x = v128.shuffle<i32>(l, l, 2, 2, 2, 2);
    a00 = v128.relaxed_dot_add<i32>(x, b0, a00), a01 = v128.relaxed_dot_add<i32>(x, b1, a01);
    x = v128.shuffle<i32>(l, l, 3, 3, 3, 3);
    a10 = v128.relaxed_dot_add<i32>(x, b0, a10), a11 = v128.relaxed_dot_add<i32>(x, b1, a11);
    l = v128.load(p, 48);
    x = v128.shuffle<i32>(l, l, 0, 0, 0, 0);
    a20 = v128.relaxed_dot_add<i32>(x, b0, a20), a21 = v128.relaxed_dot_add<i32>(x, b1, a21);
    x = v128.shuffle<i32>(l, l, 1, 1, 1, 1);
    a30 = v128.relaxed_dot_add<i32>(x, b0, a30), a31 = v128.relaxed_dot_add<i32>(x, b1, a31);
    x = v128.shuffle<i32>(l, l, 2, 2, 2, 2);
    a40 = v128.relaxed_dot_add<i32>(x, b0, a40), a41 = v128.relaxed_dot_add<i32>(x, b1, a41);
    b += 64;
    if (b == end) break;
    b0 = v128.load(b), b1 = v128.load(b, 16);
    x = v128.shuffle<i32>(l, l, 3, 3, 3, 3);
    a00 = v128.relaxed_dot_add<i32>(x, b0, a00), a01 = v128.relaxed_dot_add<i32>(x, b1, a01);
    l = v128.load(p, 64);
    x = v128.shuffle<i32>(l, l, 0, 0, 0, 0);
    a10 = v128.relaxed_dot_add<i32>(x, b0, a10), a11 = v128.relaxed_dot_add<i32>(x, b1, a11);
    x = v128.shuffle<i32>(l, l, 1, 1, 1, 1);
    a20 = v128.relaxed_dot_add<i32>(x, b0, a20), a21 = v128.relaxed_dot_add<i32>(x, b1, a21);
    x = v128.shuffle<i32>(l, l, 2, 2, 2, 2);
    a30 = v128.relaxed_dot_add<i32>(x, b0, a30), a31 = v128.relaxed_dot_add<i32>(x, b1, a31);
    x = v128.shuffle<i32>(l, l, 3, 3, 3, 3);
    a40 = v128.relaxed_dot_add<i32>(x, b0, a40), a41 = v128.relaxed_dot_add<i32>(x, b1, a41);
  }
  v128.store(to, a00);
  v128.store(to, a01, 16);
  to += step;
  v128.store(to, a10);
  v128.store(to, a11, 16);
  to += step;
  v128.store(to, a20);
  v128.store(to, a21, 16);
  to += step;
  v128.store(to, a30);
  v128.store(to, a31, 16);
  to += step;
  v128.store(to, a40);
  v128.store(to, a41, 16);
}
