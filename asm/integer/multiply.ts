// The exact product: sums i32 [tokens][stride] = Σ_k basis[k][feature] · level[k][token], 16 features and a few tokens
// at a time, the tile of the basis in the first-level cache.

/**
 * Blocks [begin, end) of 16 features, for `tokens` tokens (a multiple of 4); `depth` is k / 4 of the basis, `highDepth` that of
 * the levels' high plane. out: row t begins at t · stride elements.
 */
export function multiply(
  tiles: usize,
  depth: u32,
  low: usize,
  high: usize,
  highDepth: u32,
  sums: usize,
  tokens: u32,
  begin: u32,
  end: u32,
  out: usize,
  stride: u32,
): void {
  for (let block = begin; block < end; block++) {
    const tile = tiles + ((block * depth) << 6);
    const to = out + (((block - begin) << 4) << 2);
    if (ASC_FEATURE_RELAXED_SIMD) {
      for (let t: u32 = 0; t < tokens; t += 4) relaxedTile(tile, depth, low, high, highDepth, sums, t, to, stride);
    } else if (ASC_FEATURE_SIMD) {
      for (let t: u32 = 0; t < tokens; t++) simdTile(tile, depth, low, t, to, stride);
    } else {
      for (let t: u32 = 0; t < tokens; t++) scalarTile(tile, depth, low, t, to, stride);
    }
  }
}

/** Four tokens × 16 features; the basis holds 64 more than it means. */
function relaxedTile(
  tile: usize,
  depth: u32,
  low: usize,
  high: usize,
  highDepth: u32,
  sums: usize,
  t: u32,
  to: usize,
  stride: u32,
): void {
  let a00 = i32x4.splat(0), a01 = a00, a02 = a00, a03 = a00, a10 = a00, a11 = a00, a12 = a00, a13 = a00, a20 = a00, a21 = a00, a22 = a00, a23 = a00, a30 = a00, a31 = a00, a32 = a00, a33 = a00;
  {
    let b = tile;
    let p0 = high + t * (depth << 2);
    let p1 = p0 + (depth << 2), p2 = p0 + (depth << 3), p3 = p2 + (depth << 2);
    for (let k: u32 = 0; k < highDepth; k++) {
      const b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32), b3 = v128.load(b, 48);
      const l0 = v128.load32_splat(p0);
      a00 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, b0, a00);
      a01 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, b1, a01);
      a02 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, b2, a02);
      a03 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, b3, a03);
      const l1 = v128.load32_splat(p1);
      a10 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, b0, a10);
      a11 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, b1, a11);
      a12 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, b2, a12);
      a13 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, b3, a13);
      const l2 = v128.load32_splat(p2);
      a20 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l2, b0, a20);
      a21 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l2, b1, a21);
      a22 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l2, b2, a22);
      a23 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l2, b3, a23);
      const l3 = v128.load32_splat(p3);
      a30 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l3, b0, a30);
      a31 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l3, b1, a31);
      a32 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l3, b2, a32);
      a33 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l3, b3, a33);
      b += 64;
      p0 += 4, p1 += 4, p2 += 4, p3 += 4;
    }
  }
  a00 = i32x4.shl(a00, 8);
  a01 = i32x4.shl(a01, 8);
  a02 = i32x4.shl(a02, 8);
  a03 = i32x4.shl(a03, 8);
  a10 = i32x4.shl(a10, 8);
  a11 = i32x4.shl(a11, 8);
  a12 = i32x4.shl(a12, 8);
  a13 = i32x4.shl(a13, 8);
  a20 = i32x4.shl(a20, 8);
  a21 = i32x4.shl(a21, 8);
  a22 = i32x4.shl(a22, 8);
  a23 = i32x4.shl(a23, 8);
  a30 = i32x4.shl(a30, 8);
  a31 = i32x4.shl(a31, 8);
  a32 = i32x4.shl(a32, 8);
  a33 = i32x4.shl(a33, 8);
  {
    let b = tile;
    let p0 = low + t * (depth << 2);
    let p1 = p0 + (depth << 2), p2 = p0 + (depth << 3), p3 = p2 + (depth << 2);
    for (let k: u32 = 0; k < depth; k++) {
      const b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32), b3 = v128.load(b, 48);
      const l0 = v128.load32_splat(p0);
      a00 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, b0, a00);
      a01 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, b1, a01);
      a02 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, b2, a02);
      a03 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l0, b3, a03);
      const l1 = v128.load32_splat(p1);
      a10 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, b0, a10);
      a11 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, b1, a11);
      a12 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, b2, a12);
      a13 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l1, b3, a13);
      const l2 = v128.load32_splat(p2);
      a20 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l2, b0, a20);
      a21 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l2, b1, a21);
      a22 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l2, b2, a22);
      a23 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l2, b3, a23);
      const l3 = v128.load32_splat(p3);
      a30 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l3, b0, a30);
      a31 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l3, b1, a31);
      a32 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l3, b2, a32);
      a33 = i32x4.relaxed_dot_i8x16_i7x16_add_s(l3, b3, a33);
      b += 64;
      p0 += 4, p1 += 4, p2 += 4, p3 += 4;
    }
  }
  to += (t * stride) << 2;
  sums += t << 2;
  const s0 = i32x4.shl(v128.load32_splat(sums, 0), 6);
  v128.store(to, i32x4.sub(a00, s0), 0);
  v128.store(to, i32x4.sub(a01, s0), 16);
  v128.store(to, i32x4.sub(a02, s0), 32);
  v128.store(to, i32x4.sub(a03, s0), 48);
  to += stride << 2;
  const s1 = i32x4.shl(v128.load32_splat(sums, 4), 6);
  v128.store(to, i32x4.sub(a10, s1), 0);
  v128.store(to, i32x4.sub(a11, s1), 16);
  v128.store(to, i32x4.sub(a12, s1), 32);
  v128.store(to, i32x4.sub(a13, s1), 48);
  to += stride << 2;
  const s2 = i32x4.shl(v128.load32_splat(sums, 8), 6);
  v128.store(to, i32x4.sub(a20, s2), 0);
  v128.store(to, i32x4.sub(a21, s2), 16);
  v128.store(to, i32x4.sub(a22, s2), 32);
  v128.store(to, i32x4.sub(a23, s2), 48);
  to += stride << 2;
  const s3 = i32x4.shl(v128.load32_splat(sums, 12), 6);
  v128.store(to, i32x4.sub(a30, s3), 0);
  v128.store(to, i32x4.sub(a31, s3), 16);
  v128.store(to, i32x4.sub(a32, s3), 32);
  v128.store(to, i32x4.sub(a33, s3), 48);
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
