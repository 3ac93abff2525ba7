// Two- and four-lane arithmetic shared by the calibration kernels. Fused where the build has relaxed SIMD: the fits do
// not have to agree bit by bit between builds, only the runtime kernels do.

/** a · b + c on f64x2. */
// @ts-ignore: decorator
@inline
export function madd64(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f64x2.relaxed_madd(a, b, c);
  return f64x2.add(f64x2.mul(a, b), c);
}

/** c − a · b on f64x2. */
// @ts-ignore: decorator
@inline
export function nmadd64(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f64x2.relaxed_nmadd(a, b, c);
  return f64x2.sub(c, f64x2.mul(a, b));
}

/** a · b + c on f32x4. */
// @ts-ignore: decorator
@inline
export function madd32(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** Sum of both lanes. */
// @ts-ignore: decorator
@inline
export function fold64(a: v128): f64 {
  return f64x2.extract_lane(a, 0) + f64x2.extract_lane(a, 1);
}

/** Σ x[i] · y[i], i < n. */
export function dot(x: usize, y: usize, n: usize): f64 {
  let sum: f64 = 0;
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    let s0 = f64x2.splat(0), s1 = s0, s2 = s0, s3 = s0;
    for (; i + 8 <= n; i += 8) {
      const px = x + (i << 3), py = y + (i << 3);
      s0 = madd64(v128.load(px), v128.load(py), s0);
      s1 = madd64(v128.load(px, 16), v128.load(py, 16), s1);
      s2 = madd64(v128.load(px, 32), v128.load(py, 32), s2);
      s3 = madd64(v128.load(px, 48), v128.load(py, 48), s3);
    }
    sum = fold64(f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3)));
  }
  for (; i < n; i++) sum += load<f64>(x + (i << 3)) * load<f64>(y + (i << 3));
  return sum;
}

/** y[i] += a · x[i], i < n. */
export function axpy(a: f64, x: usize, y: usize, n: usize): void {
  let i: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const va = f64x2.splat(a);
    for (; i + 4 <= n; i += 4) {
      const px = x + (i << 3), py = y + (i << 3);
      v128.store(py, madd64(va, v128.load(px), v128.load(py)));
      v128.store(py, madd64(va, v128.load(px, 16), v128.load(py, 16)), 16);
    }
  }
  for (; i < n; i++) store<f64>(y + (i << 3), load<f64>(y + (i << 3)) + a * load<f64>(x + (i << 3)));
}

/** x[i] *= a, i < n. */
export function scale(a: f64, x: usize, n: usize): void {
  for (let i: usize = 0; i < n; i++) store<f64>(x + (i << 3), a * load<f64>(x + (i << 3)));
}
