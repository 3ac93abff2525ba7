// Gram matrix of float32 rows, accumulated in float64.
//
// A block of at most a few hundred rows, shifted to be near zero, is multiplied in float32 registers; each tile of the
// block's Gram is then added to the float64 accumulators. The float32 sums are as long as a block, so their relative
// error stays near √rows · 2⁻²⁴ ≈ 10⁻⁶, below the 2⁻¹¹ of the caches' own fp16, and does not grow with the number of
// blocks.
import { madd32 } from "./lanes";

/** Columns of a panel; the feature count is padded to a multiple of it. */
const W: usize = 12;
/** Panels whose rows of the Gram are computed together: 16 · 12 features of 256 rows are 192 KiB (L2). */
const BLOCK: usize = 16;

/** Row stride of the Gram matrix for a number of features. */
export function gramStride(features: usize): usize {
  return (features + W - 1) / W * W;
}

/** Rows of a block in the packed form: even, for the unrolled loop. */
export function gramDepth(rows: usize): usize {
  return (rows + 1) & ~(<usize>1);
}

/**
 * Packs x [rows][stride] f32 minus `shift` f32 [features] into panels [gramStride / 12][gramDepth(rows)][12], and adds
 * the shifted rows to `sums` f64 [features]. A sum that is not finite tells of a value that is not.
 */
export function packRows(
  x: usize,
  rows: usize,
  stride: usize,
  features: usize,
  shift: usize,
  sums: usize,
  panels: usize,
): void {
  const depth = gramDepth(rows);
  for (let f: usize = 0; f < features; f += W) {
    const w = min(W, features - f);
    let to = panels + f * depth * 4;
    for (let t: usize = 0; t < rows; t++, to += W * 4) {
      const from = x + (t * stride + f) * 4;
      for (let i: usize = 0; i < w; i++) {
        const value = load<f32>(from + i * 4) - load<f32>(shift + (f + i) * 4);
        store<f32>(to + i * 4, value);
        const sum = sums + (f + i) * 8;
        store<f64>(sum, load<f64>(sum) + <f64>value);
      }
      for (let i = w; i < W; i++) store<f32>(to + i * 4, 0);
    }
    if (depth > rows) memory.fill(to, 0, W * 4);
  }
}

/** g [stride][stride] f64 += panelsᵀ · panels, tiles that touch the upper triangle only. */
export function gramUpdate(panels: usize, rows: usize, features: usize, g: usize): void {
  const depth = gramDepth(rows);
  const stride = gramStride(features);
  const count = stride / W;
  const panelBytes = depth * W * 4;
  for (let i0: usize = 0; i0 < count; i0 += BLOCK) {
    const i1 = min(i0 + BLOCK, count);
    for (let j = i0; j < count; j++) {
      for (let i = i0; i < min(i1, j + 1); i++) {
        for (let s: usize = 0; s < W; s += 4) {
          const to = g + ((i * W + s) * stride + j * W) * 8;
          multiply(depth, panels + i * panelBytes + s * 4, panels + j * panelBytes, to, stride * 8);
        }
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function add(at: usize, x: v128): void {
  v128.store(at, f64x2.add(v128.load(at), f64x2.promote_low_f32x4(x)));
  const high = v128.shuffle<u32>(x, x, 2, 3, 2, 3);
  v128.store(at, f64x2.add(v128.load(at, 16), f64x2.promote_low_f32x4(high)), 16);
}

/** c[4][12] f64 += Σ a[t][4]ᵀ · b[t][12], t < depth, rows of a and b 12 elements apart. ldc in bytes. */
function multiply(depth: usize, a: usize, b: usize, c: usize, ldc: usize): void {
  if (ASC_FEATURE_SIMD) {
    let c00 = f32x4.splat(0), c01 = c00, c02 = c00, c10 = c00, c11 = c00, c12 = c00;
    let c20 = c00, c21 = c00, c22 = c00, c30 = c00, c31 = c00, c32 = c00;
    for (const end = b + depth * 48; b < end; a += 96, b += 96) {
      let b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32);
      let x = v128.load32_splat(a);
      c00 = madd32(x, b0, c00), c01 = madd32(x, b1, c01), c02 = madd32(x, b2, c02);
      x = v128.load32_splat(a, 4);
      c10 = madd32(x, b0, c10), c11 = madd32(x, b1, c11), c12 = madd32(x, b2, c12);
      x = v128.load32_splat(a, 8);
      c20 = madd32(x, b0, c20), c21 = madd32(x, b1, c21), c22 = madd32(x, b2, c22);
      x = v128.load32_splat(a, 12);
      c30 = madd32(x, b0, c30), c31 = madd32(x, b1, c31), c32 = madd32(x, b2, c32);
      b0 = v128.load(b, 48), b1 = v128.load(b, 64), b2 = v128.load(b, 80);
      x = v128.load32_splat(a, 48);
      c00 = madd32(x, b0, c00), c01 = madd32(x, b1, c01), c02 = madd32(x, b2, c02);
      x = v128.load32_splat(a, 52);
      c10 = madd32(x, b0, c10), c11 = madd32(x, b1, c11), c12 = madd32(x, b2, c12);
      x = v128.load32_splat(a, 56);
      c20 = madd32(x, b0, c20), c21 = madd32(x, b1, c21), c22 = madd32(x, b2, c22);
      x = v128.load32_splat(a, 60);
      c30 = madd32(x, b0, c30), c31 = madd32(x, b1, c31), c32 = madd32(x, b2, c32);
    }
    add(c, c00), add(c + 32, c01), add(c + 64, c02);
    c += ldc;
    add(c, c10), add(c + 32, c11), add(c + 64, c12);
    c += ldc;
    add(c, c20), add(c + 32, c21), add(c + 64, c22);
    c += ldc;
    add(c, c30), add(c + 32, c31), add(c + 64, c32);
  } else {
    for (let i: usize = 0; i < 4; i++) {
      for (let j: usize = 0; j < W; j++) {
        let sum: f32 = 0;
        for (let t: usize = 0; t < depth; t++) {
          sum += load<f32>(a + (t * W + i) * 4) * load<f32>(b + (t * W + j) * 4);
        }
        const at = c + i * ldc + j * 8;
        store<f64>(at, load<f64>(at) + <f64>sum);
      }
    }
  }
}

/** Upper triangle of g += factor · d dᵀ, rows [begin, end), d f64 [features]. */
export function rankOneUpdate(g: usize, features: usize, d: usize, factor: f64, begin: usize, end: usize): void {
  const stride = gramStride(features);
  for (let i = begin; i < end; i++) {
    const a = factor * load<f64>(d + i * 8);
    const row = g + i * stride * 8;
    for (let j = i; j < features; j++) {
      store<f64>(row + j * 8, load<f64>(row + j * 8) + a * load<f64>(d + j * 8));
    }
  }
}

/** Copies the upper triangle of a [n][n], row stride ld, to the lower one, in blocks that stay in the cache. */
export function mirror(a: usize, n: usize, ld: usize): void {
  const block: usize = 64;
  for (let i0: usize = 0; i0 < n; i0 += block) {
    for (let j0 = i0; j0 < n; j0 += block) {
      const i1 = min(i0 + block, n), j1 = min(j0 + block, n);
      for (let j = j0; j < j1; j++) {
        for (let i = i0; i < min(i1, j); i++) store<f64>(a + (j * ld + i) * 8, load<f64>(a + (i * ld + j) * 8));
      }
    }
  }
}
