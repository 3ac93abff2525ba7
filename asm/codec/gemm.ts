// The matrix product behind project and reconstruct: rows × a panel of 8 columns, after Goto and van de Geijn (2008).
// A block of rows and depth is packed once into micro-panels of 6 rows (L2), every column panel is converted to f32
// (L1) and a 6 × 8 register tile runs over both.
//
// The sum of an entry is a chain over the depth inside a block of KC, and a chain over those blocks. Rows are padded to
// the tile, so a row's result does not depend on the other rows.
import { madd } from "./lanes";

/** Register tile: 12 vector accumulators, two vectors of B, one of A: the 15 registers that x86-64 engines have. */
export const MR: usize = 6;
export const NR: usize = 8;
/** Depth of a block, a multiple of 8: the f32 panel is 8 KiB, a micro-panel 6 KiB, together in L1. */
export const KC: usize = 256;
/** Rows of a block: one chunk of 256 tokens in whole micro-panels; 258 KiB, in L2. */
export const MC: usize = 258;

const A_BYTES: usize = MC * KC * 4;
const B_BYTES: usize = KC * NR * 4;

/** Bytes of scratch memory that the products need: packed rows, a column panel, a tile for the borders. */
export function gemmScratchBytes(): usize {
  return A_BYTES + B_BYTES + MR * NR * 4;
}

/** Where the column panel lies in the scratch memory. */
// @ts-ignore: decorator
@inline
export function panelOf(scratch: usize): usize {
  return scratch + A_BYTES;
}

/** Packs a [rows][depth], row stride in bytes, to [rows / 6][padded depth][6]; padding is zero. */
export function packRows(a: usize, stride: usize, rows: usize, depth: usize, padded: usize, to: usize): void {
  for (let r: usize = 0; r < rows; r += MR, to += padded * MR * 4) {
    const n = min(MR, rows - r);
    if (n < MR || depth < padded) memory.fill(to, 0, padded * MR * 4);
    for (let i: usize = 0; i < n; i++) {
      const from = a + (r + i) * stride;
      for (let k: usize = 0; k < depth; k++) store<f32>(to + (k * MR + i) * 4, load<f32>(from + k * 4));
    }
  }
}

/**
 * c[rows][begin … end − 1] (+)= packed rows · panel, where `c` points at the row's column 0 of the panel, ldc in bytes
 * and 0 ≤ begin < end ≤ 8.
 */
export function multiplyPanel(
  scratch: usize,
  rows: usize,
  depth: usize,
  c: usize,
  ldc: usize,
  begin: usize,
  end: usize,
  accumulate: bool,
): void {
  const panel = scratch + A_BYTES;
  const tile = panel + B_BYTES;
  let a = scratch;
  for (let r: usize = 0; r < rows; r += MR, a += depth * MR * 4, c += ldc * MR) {
    const n = min(MR, rows - r);
    if (n == MR && begin == 0 && end == NR) {
      multiplyTile(depth, a, panel, c, ldc, accumulate);
      continue;
    }
    // A border: the same operations on a tile apart, of which the valid part is copied.
    if (accumulate) {
      memory.fill(tile, 0, MR * NR * 4);
      for (let i: usize = 0; i < n; i++) {
        memory.copy(tile + (i * NR + begin) * 4, c + i * ldc + begin * 4, (end - begin) * 4);
      }
    }
    multiplyTile(depth, a, panel, tile, NR * 4, accumulate);
    for (let i: usize = 0; i < n; i++) {
      memory.copy(c + i * ldc + begin * 4, tile + (i * NR + begin) * 4, (end - begin) * 4);
    }
  }
}

// @ts-ignore: decorator
@inline
function put(at: usize, x: v128, y: v128, accumulate: bool): void {
  if (accumulate) x = f32x4.add(v128.load(at), x), y = f32x4.add(v128.load(at, 16), y);
  v128.store(at, x);
  v128.store(at, y, 16);
}

/** c[6][8] (+)= Σ a[k][6]ᵀ · b[k][8], k < depth. ldc in bytes. */
export function multiplyTile(depth: usize, a: usize, b: usize, c: usize, ldc: usize, accumulate: bool): void {
  if (ASC_FEATURE_SIMD) {
    let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00;
    let c30 = c00, c31 = c00, c40 = c00, c41 = c00, c50 = c00, c51 = c00;
    let b0: v128, b1: v128, x: v128;
    // Four steps of the depth a round, since a tenth of the instructions of one are the loop's. The ends between them, which
    // depths of whole rounds do not meet, keep compilers from doing the steps of one sum after another: that takes more
    // registers than there are. Pointers move from step to step, that checks of bounds have few limits.
    for (const end = b + depth * 32; b < end; a += 24, b += 32) {
      b0 = v128.load(b), b1 = v128.load(b, 16);
      x = v128.load32_splat(a);
      c00 = madd(x, b0, c00), c01 = madd(x, b1, c01);
      x = v128.load32_splat(a, 4);
      c10 = madd(x, b0, c10), c11 = madd(x, b1, c11);
      x = v128.load32_splat(a, 8);
      c20 = madd(x, b0, c20), c21 = madd(x, b1, c21);
      x = v128.load32_splat(a, 12);
      c30 = madd(x, b0, c30), c31 = madd(x, b1, c31);
      x = v128.load32_splat(a, 16);
      c40 = madd(x, b0, c40), c41 = madd(x, b1, c41);
      x = v128.load32_splat(a, 20);
      c50 = madd(x, b0, c50), c51 = madd(x, b1, c51);
      a += 24, b += 32;
      if (b == end) break;
      b0 = v128.load(b), b1 = v128.load(b, 16);
      x = v128.load32_splat(a);
      c00 = madd(x, b0, c00), c01 = madd(x, b1, c01);
      x = v128.load32_splat(a, 4);
      c10 = madd(x, b0, c10), c11 = madd(x, b1, c11);
      x = v128.load32_splat(a, 8);
      c20 = madd(x, b0, c20), c21 = madd(x, b1, c21);
      x = v128.load32_splat(a, 12);
      c30 = madd(x, b0, c30), c31 = madd(x, b1, c31);
      x = v128.load32_splat(a, 16);
      c40 = madd(x, b0, c40), c41 = madd(x, b1, c41);
      x = v128.load32_splat(a, 20);
      c50 = madd(x, b0, c50), c51 = madd(x, b1, c51);
      a += 24, b += 32;
      if (b == end) break;
      b0 = v128.load(b), b1 = v128.load(b, 16);
      x = v128.load32_splat(a);
      c00 = madd(x, b0, c00), c01 = madd(x, b1, c01);
      x = v128.load32_splat(a, 4);
      c10 = madd(x, b0, c10), c11 = madd(x, b1, c11);
      x = v128.load32_splat(a, 8);
      c20 = madd(x, b0, c20), c21 = madd(x, b1, c21);
      x = v128.load32_splat(a, 12);
      c30 = madd(x, b0, c30), c31 = madd(x, b1, c31);
      x = v128.load32_splat(a, 16);
      c40 = madd(x, b0, c40), c41 = madd(x, b1, c41);
      x = v128.load32_splat(a, 20);
      c50 = madd(x, b0, c50), c51 = madd(x, b1, c51);
      a += 24, b += 32;
      if (b == end) break;
      b0 = v128.load(b), b1 = v128.load(b, 16);
      x = v128.load32_splat(a);
      c00 = madd(x, b0, c00), c01 = madd(x, b1, c01);
      x = v128.load32_splat(a, 4);
      c10 = madd(x, b0, c10), c11 = madd(x, b1, c11);
      x = v128.load32_splat(a, 8);
      c20 = madd(x, b0, c20), c21 = madd(x, b1, c21);
      x = v128.load32_splat(a, 12);
      c30 = madd(x, b0, c30), c31 = madd(x, b1, c31);
      x = v128.load32_splat(a, 16);
      c40 = madd(x, b0, c40), c41 = madd(x, b1, c41);
      x = v128.load32_splat(a, 20);
      c50 = madd(x, b0, c50), c51 = madd(x, b1, c51);
    }
    put(c, c00, c01, accumulate);
    put(c + ldc, c10, c11, accumulate);
    put(c + ldc * 2, c20, c21, accumulate);
    put(c + ldc * 3, c30, c31, accumulate);
    put(c + ldc * 4, c40, c41, accumulate);
    put(c + ldc * 5, c50, c51, accumulate);
  } else {
    // 6 × 2 scalars at a time: as many as registers hold.
    for (let j: usize = 0; j < 8; j += 2, b += 8, c += 8) {
      let c00: f32 = 0, c01: f32 = 0, c10: f32 = 0, c11: f32 = 0, c20: f32 = 0, c21: f32 = 0;
      let c30: f32 = 0, c31: f32 = 0, c40: f32 = 0, c41: f32 = 0, c50: f32 = 0, c51: f32 = 0;
      let p = a;
      for (let q = b, end = b + depth * 32; q < end; p += 24, q += 32) {
        const b0 = load<f32>(q), b1 = load<f32>(q, 4);
        let x = load<f32>(p);
        c00 += x * b0, c01 += x * b1;
        x = load<f32>(p, 4);
        c10 += x * b0, c11 += x * b1;
        x = load<f32>(p, 8);
        c20 += x * b0, c21 += x * b1;
        x = load<f32>(p, 12);
        c30 += x * b0, c31 += x * b1;
        x = load<f32>(p, 16);
        c40 += x * b0, c41 += x * b1;
        x = load<f32>(p, 20);
        c50 += x * b0, c51 += x * b1;
      }
      put2(c, c00, c01, accumulate);
      put2(c + ldc, c10, c11, accumulate);
      put2(c + ldc * 2, c20, c21, accumulate);
      put2(c + ldc * 3, c30, c31, accumulate);
      put2(c + ldc * 4, c40, c41, accumulate);
      put2(c + ldc * 5, c50, c51, accumulate);
    }
  }
}

// @ts-ignore: decorator
@inline
function put2(at: usize, x: f32, y: f32, accumulate: bool): void {
  if (accumulate) x += load<f32>(at), y += load<f32>(at, 4);
  store<f32>(at, x);
  store<f32>(at, y, 4);
}
