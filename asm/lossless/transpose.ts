// Bytes [tokens][dim] of a block ↔ rows of symbols: element i of the block is the row rows[i] of `tokens` bytes.

/** from [tokens][dim] → symbols. */
export function toRows(from: usize, tokens: usize, dim: usize, rows: usize, symbols: usize): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    for (; i + 16 <= dim; i += 16) {
      let t: usize = 0;
      for (; t + 16 <= tokens; t += 16) tile(from + t * dim + i, dim, rows + (i << 2), 0, symbols + t, tokens);
      for (; t < tokens; t++) {
        for (let k: usize = i; k < i + 16; k++) {
          store<u8>(symbols + <usize>load<u32>(rows + (k << 2)) * tokens + t, load<u8>(from + t * dim + k));
        }
      }
    }
  }
  for (; i < dim; i++) {
    const to = symbols + <usize>load<u32>(rows + (i << 2)) * tokens;
    for (let t: usize = 0; t < tokens; t++) store<u8>(to + t, load<u8>(from + t * dim + i));
  }
}

/** symbols → to [tokens][dim]. */
export function fromRows(symbols: usize, tokens: usize, dim: usize, rows: usize, to: usize): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    for (; i + 16 <= dim; i += 16) {
      let t: usize = 0;
      for (; t + 16 <= tokens; t += 16) tile(symbols + t, tokens, 0, rows + (i << 2), to + t * dim + i, dim);
      for (; t < tokens; t++) {
        for (let k: usize = i; k < i + 16; k++) {
          store<u8>(to + t * dim + k, load<u8>(symbols + <usize>load<u32>(rows + (k << 2)) * tokens + t));
        }
      }
    }
  }
  for (; i < dim; i++) {
    const from = symbols + <usize>load<u32>(rows + (i << 2)) * tokens;
    for (let t: usize = 0; t < tokens; t++) store<u8>(to + t * dim + i, load<u8>(from + t));
  }
}

/** Start of line k: line k, or the one that a list of lines has there. */
// @ts-ignore: decorator
@inline
function line(base: usize, stride: usize, list: usize, k: usize): usize {
  return base + (list ? <usize>load<u32>(list + (k << 2)) : k) * stride;
}

/**
 * 16 × 16 bytes from lines to lines, transposed; lines are `stride` bytes apart, or those of a list (toList of what is
 * written, fromList of what is read; 0 is none). Four rounds of interleaving, each of which halves the distance.
 */
// @ts-ignore: decorator
@inline
function tile(from: usize, fromStride: usize, toList: usize, fromList: usize, to: usize, toStride: usize): void {
  const a0 = v128.load(line(from, fromStride, fromList, 0)), a1 = v128.load(line(from, fromStride, fromList, 1));
  const a2 = v128.load(line(from, fromStride, fromList, 2)), a3 = v128.load(line(from, fromStride, fromList, 3));
  const a4 = v128.load(line(from, fromStride, fromList, 4)), a5 = v128.load(line(from, fromStride, fromList, 5));
  const a6 = v128.load(line(from, fromStride, fromList, 6)), a7 = v128.load(line(from, fromStride, fromList, 7));
  const a8 = v128.load(line(from, fromStride, fromList, 8)), a9 = v128.load(line(from, fromStride, fromList, 9));
  const aa = v128.load(line(from, fromStride, fromList, 10)), ab = v128.load(line(from, fromStride, fromList, 11));
  const ac = v128.load(line(from, fromStride, fromList, 12)), ad = v128.load(line(from, fromStride, fromList, 13));
  const ae = v128.load(line(from, fromStride, fromList, 14)), af = v128.load(line(from, fromStride, fromList, 15));
  const b0 = low8(a0, a8), b1 = high8(a0, a8), b2 = low8(a1, a9), b3 = high8(a1, a9);
  const b4 = low8(a2, aa), b5 = high8(a2, aa), b6 = low8(a3, ab), b7 = high8(a3, ab);
  const b8 = low8(a4, ac), b9 = high8(a4, ac), ba = low8(a5, ad), bb = high8(a5, ad);
  const bc = low8(a6, ae), bd = high8(a6, ae), be = low8(a7, af), bf = high8(a7, af);
  const c0 = low8(b0, b8), c1 = high8(b0, b8), c2 = low8(b1, b9), c3 = high8(b1, b9);
  const c4 = low8(b2, ba), c5 = high8(b2, ba), c6 = low8(b3, bb), c7 = high8(b3, bb);
  const c8 = low8(b4, bc), c9 = high8(b4, bc), ca = low8(b5, bd), cb = high8(b5, bd);
  const cc = low8(b6, be), cd = high8(b6, be), ce = low8(b7, bf), cf = high8(b7, bf);
  const d0 = low8(c0, c8), d1 = high8(c0, c8), d2 = low8(c1, c9), d3 = high8(c1, c9);
  const d4 = low8(c2, ca), d5 = high8(c2, ca), d6 = low8(c3, cb), d7 = high8(c3, cb);
  const d8 = low8(c4, cc), d9 = high8(c4, cc), da = low8(c5, cd), db = high8(c5, cd);
  const dc = low8(c6, ce), dd = high8(c6, ce), de = low8(c7, cf), df = high8(c7, cf);
  v128.store(line(to, toStride, toList, 0), low8(d0, d8));
  v128.store(line(to, toStride, toList, 1), high8(d0, d8));
  v128.store(line(to, toStride, toList, 2), low8(d1, d9));
  v128.store(line(to, toStride, toList, 3), high8(d1, d9));
  v128.store(line(to, toStride, toList, 4), low8(d2, da));
  v128.store(line(to, toStride, toList, 5), high8(d2, da));
  v128.store(line(to, toStride, toList, 6), low8(d3, db));
  v128.store(line(to, toStride, toList, 7), high8(d3, db));
  v128.store(line(to, toStride, toList, 8), low8(d4, dc));
  v128.store(line(to, toStride, toList, 9), high8(d4, dc));
  v128.store(line(to, toStride, toList, 10), low8(d5, dd));
  v128.store(line(to, toStride, toList, 11), high8(d5, dd));
  v128.store(line(to, toStride, toList, 12), low8(d6, de));
  v128.store(line(to, toStride, toList, 13), high8(d6, de));
  v128.store(line(to, toStride, toList, 14), low8(d7, df));
  v128.store(line(to, toStride, toList, 15), high8(d7, df));
}

/** The first halves of two vectors, byte by byte in turn. */
// @ts-ignore: decorator
@inline
export function low8(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

/** The second halves. */
// @ts-ignore: decorator
@inline
export function high8(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
