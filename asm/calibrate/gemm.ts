// Matrix product in float64: C = A·B, C += A·B or C −= A·B, all matrices with row and column strides, packed into
// panels that a 4 × 6 register tile streams through (the scheme of Goto and van de Geijn, 2008).
import { madd64 } from "./lanes";

/** Rows and columns of the register tile: 12 accumulators, 3 vectors of B, one broadcast of A: 16 registers. */
const MR: usize = 4;
const NR: usize = 6;
/** Depth, rows and columns of the packed blocks: B panel 12 KiB (L1), A block 192 KiB (L2), B block 2.3 MiB (L3). */
const KC: usize = 256;
const MC: usize = 96;
const NC: usize = 1200;
const A_BYTES: usize = MC * KC * 8;
const B_BYTES: usize = NC * KC * 8;

/** Flags of gemm. */
export const ACCUMULATE: i32 = 1;
export const SUBTRACT: i32 = 2;
/** Only tiles that touch the upper triangle of C are computed; what lies in the others is left as it is. */
export const UPPER: i32 = 4;

/** Bytes of scratch memory that gemm needs. */
export function gemmScratchBytes(): usize {
  return A_BYTES + B_BYTES + MR * NR * 8;
}

/**
 * C[m][n] (=, +=, −=) A[m][k] · B[k][n]. Strides in elements: A[i][p] at a + (i·ars + p·acs)·8, B[p][j] likewise, rows
 * of C contiguous with stride ldc. k = 0 clears C unless it accumulates.
 */
export function gemm(
  m: usize,
  n: usize,
  k: usize,
  a: usize,
  ars: usize,
  acs: usize,
  b: usize,
  brs: usize,
  bcs: usize,
  c: usize,
  ldc: usize,
  flags: i32,
  scratch: usize,
): void {
  const packedA = scratch, packedB = scratch + A_BYTES, tile = packedB + B_BYTES;
  const keep = (flags & (ACCUMULATE | SUBTRACT)) != 0;
  if (k == 0 && !keep) {
    for (let i: usize = 0; i < m; i++) memory.fill(c + i * ldc * 8, 0, n * 8);
  }
  for (let jc: usize = 0; jc < n; jc += NC) {
    const nc = min(NC, n - jc);
    for (let pc: usize = 0; pc < k; pc += KC) {
      const kc = min(KC, k - pc);
      const depth = (kc + 1) & ~(<usize>1);
      pack(b + (pc * brs + jc * bcs) * 8, bcs, brs, nc, kc, depth, NR, packedB);
      const mode = (flags & SUBTRACT) != 0 ? 2 : (keep || pc > 0 ? 1 : 0);
      for (let ic: usize = 0; ic < m; ic += MC) {
        if ((flags & UPPER) != 0 && jc + nc <= ic) break;
        const mc = min(MC, m - ic);
        pack(a + (ic * ars + pc * acs) * 8, ars, acs, mc, kc, depth, MR, packedA);
        for (let jr: usize = 0; jr < nc; jr += NR) {
          const columns = min(NR, nc - jr);
          const panel = packedB + jr * depth * 8;
          for (let ir: usize = 0; ir < mc; ir += MR) {
            if ((flags & UPPER) != 0 && jc + jr + columns <= ic + ir) break;
            const rows = min(MR, mc - ir);
            const to = c + ((ic + ir) * ldc + jc + jr) * 8;
            if (rows == MR && columns == NR) {
              multiply(depth, packedA + ir * depth * 8, panel, to, ldc * 8, mode);
            } else {
              multiply(depth, packedA + ir * depth * 8, panel, tile, NR * 8, 0);
              copyTile(tile, to, ldc * 8, rows, columns, mode);
            }
          }
        }
      }
    }
  }
}

/** Packs `count` vectors (element stride `vs`) of `kc` elements (stride `ks`) into panels [width][depth → k-major]. */
function pack(from: usize, vs: usize, ks: usize, count: usize, kc: usize, depth: usize, width: usize, to: usize): void {
  for (let v: usize = 0; v < count; v += width) {
    const w = min(width, count - v);
    for (let p: usize = 0; p < kc; p++) {
      const source = from + (v * vs + p * ks) * 8;
      for (let i: usize = 0; i < w; i++) store<f64>(to + i * 8, load<f64>(source + i * vs * 8));
      for (let i = w; i < width; i++) store<f64>(to + i * 8, 0);
      to += width * 8;
    }
    if (depth > kc) {
      memory.fill(to, 0, width * 8);
      to += width * 8;
    }
  }
}

/** c (=, +=, −=) tile. */
function copyTile(tile: usize, c: usize, ldc: usize, rows: usize, columns: usize, mode: i32): void {
  for (let i: usize = 0; i < rows; i++) {
    for (let j: usize = 0; j < columns; j++) {
      const at = c + i * ldc + j * 8;
      const x = load<f64>(tile + (i * NR + j) * 8);
      store<f64>(at, mode == 0 ? x : mode == 1 ? load<f64>(at) + x : load<f64>(at) - x);
    }
  }
}

// @ts-ignore: decorator
@inline
function put(at: usize, x: v128, mode: i32): void {
  if (mode == 1) x = f64x2.add(v128.load(at), x);
  else if (mode == 2) x = f64x2.sub(v128.load(at), x);
  v128.store(at, x);
}

/** The register tile: c[4][6] (=, +=, −=) Σ a[p][4]ᵀ · b[p][6], p < depth (even). ldc in bytes. */
function multiply(depth: usize, a: usize, b: usize, c: usize, ldc: usize, mode: i32): void {
  if (ASC_FEATURE_SIMD) {
    let c00 = f64x2.splat(0), c01 = c00, c02 = c00, c10 = c00, c11 = c00, c12 = c00;
    let c20 = c00, c21 = c00, c22 = c00, c30 = c00, c31 = c00, c32 = c00;
    let b0: v128, b1: v128, b2: v128, x: v128;
    // Two steps a round; the end between them, which no even depth meets, keeps them apart (../codec/gemm.ts).
    for (const end = a + depth * 32; a < end; a += 64, b += 96) {
      b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32);
      x = v128.load64_splat(a);
      c00 = madd64(x, b0, c00), c01 = madd64(x, b1, c01), c02 = madd64(x, b2, c02);
      x = v128.load64_splat(a, 8);
      c10 = madd64(x, b0, c10), c11 = madd64(x, b1, c11), c12 = madd64(x, b2, c12);
      x = v128.load64_splat(a, 16);
      c20 = madd64(x, b0, c20), c21 = madd64(x, b1, c21), c22 = madd64(x, b2, c22);
      x = v128.load64_splat(a, 24);
      c30 = madd64(x, b0, c30), c31 = madd64(x, b1, c31), c32 = madd64(x, b2, c32);
      if (a + 32 == end) break;
      b0 = v128.load(b, 48), b1 = v128.load(b, 64), b2 = v128.load(b, 80);
      x = v128.load64_splat(a, 32);
      c00 = madd64(x, b0, c00), c01 = madd64(x, b1, c01), c02 = madd64(x, b2, c02);
      x = v128.load64_splat(a, 40);
      c10 = madd64(x, b0, c10), c11 = madd64(x, b1, c11), c12 = madd64(x, b2, c12);
      x = v128.load64_splat(a, 48);
      c20 = madd64(x, b0, c20), c21 = madd64(x, b1, c21), c22 = madd64(x, b2, c22);
      x = v128.load64_splat(a, 56);
      c30 = madd64(x, b0, c30), c31 = madd64(x, b1, c31), c32 = madd64(x, b2, c32);
    }
    put(c, c00, mode), put(c + 16, c01, mode), put(c + 32, c02, mode);
    c += ldc;
    put(c, c10, mode), put(c + 16, c11, mode), put(c + 32, c12, mode);
    c += ldc;
    put(c, c20, mode), put(c + 16, c21, mode), put(c + 32, c22, mode);
    c += ldc;
    put(c, c30, mode), put(c + 16, c31, mode), put(c + 32, c32, mode);
  } else {
    for (let i: usize = 0; i < MR; i++) {
      for (let j: usize = 0; j < NR; j++) {
        let sum: f64 = 0;
        for (let p: usize = 0; p < depth; p++) {
          sum += load<f64>(a + (p * MR + i) * 8) * load<f64>(b + (p * NR + j) * 8);
        }
        const at = c + i * ldc + j * 8;
        store<f64>(at, mode == 0 ? sum : mode == 1 ? load<f64>(at) + sum : load<f64>(at) - sum);
      }
    }
  }
}
