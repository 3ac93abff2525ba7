// Rows times a square block, sums in float64: what makes the forward matrix out of a profile (src/profile/kvz/forward.ts).
// Products of two float32 are exact in float64 and sums go in order, so that every build gives the bits of plain TypeScript.

/** Entries of a row at a time with SIMD: eight sums of two lanes. */
const WIDTH: u32 = 16;

/**
 * out[r][i] = Σ_j block[i][j] · rows[r][j], rounded once. block f64, transposed: [j][i]; rows and out f32 [count][dim].
 */
export function multiplyBlock(block: usize, dim: u32, rows: usize, count: u32, out: usize): void {
  for (let r: u32 = 0; r < count; r++, rows += dim << 2, out += dim << 2) {
    let i: u32 = 0;
    if (ASC_FEATURE_SIMD) {
      for (; i + WIDTH <= dim; i += WIDTH) tile(block + (i << 3), dim, rows, out + (i << 2));
    }
    for (; i < dim; i++) {
      let sum: f64 = 0;
      for (let j: u32 = 0; j < dim; j++) sum += load<f64>(block + ((j * dim + i) << 3)) * <f64> load<f32>(rows + (j << 2));
      store<f32>(out + (i << 2), <f32> sum);
    }
  }
}

function tile(block: usize, dim: u32, row: usize, out: usize): void {
  let a = f64x2.splat(0), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
  const step = dim << 3;
  for (let j: u32 = 0; j < dim; j++, row += 4, block += step) {
    const x = f64x2.splat(<f64> load<f32>(row));
    a = f64x2.add(a, f64x2.mul(v128.load(block), x));
    b = f64x2.add(b, f64x2.mul(v128.load(block, 16), x));
    c = f64x2.add(c, f64x2.mul(v128.load(block, 32), x));
    d = f64x2.add(d, f64x2.mul(v128.load(block, 48), x));
    e = f64x2.add(e, f64x2.mul(v128.load(block, 64), x));
    f = f64x2.add(f, f64x2.mul(v128.load(block, 80), x));
    g = f64x2.add(g, f64x2.mul(v128.load(block, 96), x));
    h = f64x2.add(h, f64x2.mul(v128.load(block, 112), x));
  }
  v128.store(out, pair(a, b));
  v128.store(out, pair(c, d), 16);
  v128.store(out, pair(e, f), 32);
  v128.store(out, pair(g, h), 48);
}

/** Four float32. */
// @ts-ignore: decorator
@inline
function pair(x: v128, y: v128): v128 {
  return v128.shuffle<i32>(f32x4.demote_f64x2_zero(x), f32x4.demote_f64x2_zero(y), 0, 1, 4, 5);
}
