// y = f(x · w + bias) on panels of eight rows. A register tile gives six outputs of a panel: twelve vector accumulators, two
// vectors of x and a weight are the 15 registers that x86-64 engines have, and eight loads serve twelve multiply-adds,
// since engines that check bounds (Deno's) pay for every load.

/** Outputs of a tile. */
export const OUTPUTS: usize = 6;
/** Panels that pass before the next weights: with 192 inputs 96 KiB of rows, in the second-level cache. */
const PANELS: usize = 16;

/**
 * Panels x [panels][…][8] to y [panels][…][8], strides in bytes. `depth`: inputs, even, those of padding zero in x or w.
 * w [outputs / 6][depth][6] (see weights.ts), bias [outputs], outputs a multiple of 6. Negative results times `slope`.
 */
export function layer(
  x: usize,
  xStride: usize,
  panels: usize,
  depth: usize,
  w: usize,
  outputs: usize,
  bias: usize,
  slope: f32,
  y: usize,
  yStride: usize,
): void {
  for (let first: usize = 0; first < panels; first += PANELS) {
    const end = min(panels, first + PANELS);
    let weights = w;
    for (let j: usize = 0; j < outputs; j += OUTPUTS, weights += depth * OUTPUTS * 4) {
      for (let p = first; p < end; p++) {
        tile(depth, weights, x + p * xStride, bias + j * 4, slope, y + p * yStride + j * 32);
      }
    }
  }
}

function tile(depth: usize, w: usize, x: usize, bias: usize, slope: f32, y: usize): void {
  if (ASC_FEATURE_SIMD) {
    const zero = f32x4.splat(0);
    let a0 = zero, a1 = zero, b0 = zero, b1 = zero, c0 = zero, c1 = zero;
    let d0 = zero, d1 = zero, e0 = zero, e1 = zero, f0 = zero, f1 = zero;
    let x0: v128, x1: v128, weight: v128;
    // Two steps a round; the end between them, which no even depth meets, keeps them apart (../codec/gemm.ts).
    for (const end = x + depth * 32; x < end; x += 64, w += 48) {
      x0 = v128.load(x), x1 = v128.load(x, 16);
      weight = v128.load32_splat(w);
      a0 = f32x4.add(a0, f32x4.mul(weight, x0)), a1 = f32x4.add(a1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 4);
      b0 = f32x4.add(b0, f32x4.mul(weight, x0)), b1 = f32x4.add(b1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 8);
      c0 = f32x4.add(c0, f32x4.mul(weight, x0)), c1 = f32x4.add(c1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 12);
      d0 = f32x4.add(d0, f32x4.mul(weight, x0)), d1 = f32x4.add(d1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 16);
      e0 = f32x4.add(e0, f32x4.mul(weight, x0)), e1 = f32x4.add(e1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 20);
      f0 = f32x4.add(f0, f32x4.mul(weight, x0)), f1 = f32x4.add(f1, f32x4.mul(weight, x1));
      if (x + 32 == end) break;
      x0 = v128.load(x, 32), x1 = v128.load(x, 48);
      weight = v128.load32_splat(w, 24);
      a0 = f32x4.add(a0, f32x4.mul(weight, x0)), a1 = f32x4.add(a1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 28);
      b0 = f32x4.add(b0, f32x4.mul(weight, x0)), b1 = f32x4.add(b1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 32);
      c0 = f32x4.add(c0, f32x4.mul(weight, x0)), c1 = f32x4.add(c1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 36);
      d0 = f32x4.add(d0, f32x4.mul(weight, x0)), d1 = f32x4.add(d1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 40);
      e0 = f32x4.add(e0, f32x4.mul(weight, x0)), e1 = f32x4.add(e1, f32x4.mul(weight, x1));
      weight = v128.load32_splat(w, 44);
      f0 = f32x4.add(f0, f32x4.mul(weight, x0)), f1 = f32x4.add(f1, f32x4.mul(weight, x1));
    }
    const factor = f32x4.splat(slope);
    finish(y, a0, a1, bias, factor);
    finish(y + 32, b0, b1, bias + 4, factor);
    finish(y + 64, c0, c1, bias + 8, factor);
    finish(y + 96, d0, d1, bias + 12, factor);
    finish(y + 128, e0, e1, bias + 16, factor);
    finish(y + 160, f0, f1, bias + 20, factor);
  } else {
    // Two rows at a time: twelve sums, as many as registers hold.
    for (const last = x + 32; x < last; x += 8, y += 8) {
      let a0: f32 = 0, a1: f32 = 0, b0: f32 = 0, b1: f32 = 0, c0: f32 = 0, c1: f32 = 0;
      let d0: f32 = 0, d1: f32 = 0, e0: f32 = 0, e1: f32 = 0, f0: f32 = 0, f1: f32 = 0;
      let p = w;
      for (let q = x, end = x + depth * 32; q < end; q += 32, p += 24) {
        const x0 = load<f32>(q), x1 = load<f32>(q, 4);
        let weight = load<f32>(p);
        a0 += weight * x0, a1 += weight * x1;
        weight = load<f32>(p, 4);
        b0 += weight * x0, b1 += weight * x1;
        weight = load<f32>(p, 8);
        c0 += weight * x0, c1 += weight * x1;
        weight = load<f32>(p, 12);
        d0 += weight * x0, d1 += weight * x1;
        weight = load<f32>(p, 16);
        e0 += weight * x0, e1 += weight * x1;
        weight = load<f32>(p, 20);
        f0 += weight * x0, f1 += weight * x1;
      }
      finish2(y, a0, a1, bias, slope);
      finish2(y + 32, b0, b1, bias + 4, slope);
      finish2(y + 64, c0, c1, bias + 8, slope);
      finish2(y + 96, d0, d1, bias + 12, slope);
      finish2(y + 128, e0, e1, bias + 16, slope);
      finish2(y + 160, f0, f1, bias + 20, slope);
    }
  }
}

// @ts-ignore: decorator
@inline
function finish(y: usize, low: v128, high: v128, bias: usize, slope: v128): void {
  const zero = f32x4.splat(0), b = v128.load32_splat(bias);
  low = f32x4.add(low, b), high = f32x4.add(high, b);
  v128.store(y, v128.bitselect(f32x4.mul(low, slope), low, f32x4.lt(low, zero)));
  v128.store(y, v128.bitselect(f32x4.mul(high, slope), high, f32x4.lt(high, zero)), 16);
}

// @ts-ignore: decorator
@inline
function finish2(y: usize, first: f32, second: f32, bias: usize, slope: f32): void {
  const b = load<f32>(bias);
  first += b, second += b;
  store<f32>(y, first < 0 ? first * slope : first);
  store<f32>(y, second < 0 ? second * slope : second, 4);
}
