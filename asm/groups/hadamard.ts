// The Walsh–Hadamard transform of rows, in place: n a power of two, every result times `scale`. Each number is the sum or
// the difference of the same two as in the plain loops, whatever the build.

export function hadamard(x: usize, rows: usize, n: usize, scale: f32): void {
  const bytes = n << 2;
  for (const end = x + rows * bytes; x < end; x += bytes) {
    if (ASC_FEATURE_SIMD && n >= 4) rowSimd(x, bytes, scale);
    else rowScalar(x, bytes, scale);
  }
}

function rowScalar(x: usize, bytes: usize, scale: f32): void {
  for (let half: usize = 4; half < bytes; half <<= 1) {
    for (let i = x; i < x + bytes; i += half << 1) {
      for (let j = i; j < i + half; j += 4) {
        const a = load<f32>(j), b = load<f32>(j + half);
        store<f32>(j, a + b);
        store<f32>(j + half, a - b);
      }
    }
  }
  for (let i = x; i < x + bytes; i += 4) store<f32>(i, load<f32>(i) * scale);
}

function rowSimd(x: usize, bytes: usize, scale: f32): void {
  // Steps of 1 and 2 elements within a vector.
  const odd = i32x4(0, -1, 0, -1), last = i32x4(0, 0, -1, -1);
  for (let i = x; i < x + bytes; i += 16) {
    let v = v128.load(i);
    let other = v128.shuffle<f32>(v, v, 1, 0, 3, 2);
    v = v128.bitselect(f32x4.sub(other, v), f32x4.add(v, other), odd);
    other = v128.shuffle<f32>(v, v, 2, 3, 0, 1);
    v128.store(i, v128.bitselect(f32x4.sub(other, v), f32x4.add(v, other), last));
  }
  for (let half: usize = 16; half < bytes; half <<= 1) {
    for (let i = x; i < x + bytes; i += half << 1) {
      for (let j = i; j < i + half; j += 16) {
        const a = v128.load(j), b = v128.load(j + half);
        v128.store(j, f32x4.add(a, b));
        v128.store(j + half, f32x4.sub(a, b));
      }
    }
  }
  const s = f32x4.splat(scale);
  for (let i = x; i < x + bytes; i += 16) v128.store(i, f32x4.mul(v128.load(i), s));
}
