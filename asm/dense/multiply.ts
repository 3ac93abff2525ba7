// c [rows][n] = a [rows][k] · b [k][n], n a multiple of 4. Tiles of four rows by eight columns; a column block of b stays
// in the first-level cache while the rows pass.

/** All matrices f32, rows without gaps. */
export function multiply(a: usize, rows: u32, k: u32, b: usize, n: u32, c: usize): void {
  if (ASC_FEATURE_SIMD) {
    let j: u32 = 0;
    for (; j + 8 <= n; j += 8) {
      let r: u32 = 0;
      for (; r + 4 <= rows; r += 4) tile4x8(a + ((r * k) << 2), k, b + (j << 2), n, c + ((r * n + j) << 2));
      for (; r < rows; r++) {
        tile1x4(a + ((r * k) << 2), k, b + (j << 2), n, c + ((r * n + j) << 2));
        tile1x4(a + ((r * k) << 2), k, b + ((j + 4) << 2), n, c + ((r * n + j + 4) << 2));
      }
    }
    if (j < n) {
      for (let r: u32 = 0; r < rows; r++) tile1x4(a + ((r * k) << 2), k, b + (j << 2), n, c + ((r * n + j) << 2));
    }
  } else {
    for (let r: u32 = 0; r < rows; r++) {
      const row = a + ((r * k) << 2), to = c + ((r * n) << 2);
      for (let j: u32 = 0; j < n; j += 4) tile1x4Scalar(row, k, b + (j << 2), n, to + (j << 2));
    }
  }
}

function tile4x8(a: usize, k: u32, b: usize, n: u32, c: usize): void {
  const step = k << 2, width = n << 2, end = a + step;
  const zero = f32x4.splat(0);
  let p0 = zero, p1 = zero, q0 = zero, q1 = zero, r0 = zero, r1 = zero, s0 = zero, s1 = zero;
  for (; a < end; a += 4, b += width) {
    const left = v128.load(b), right = v128.load(b, 16);
    let x = v128.load32_splat(a);
    p0 = f32x4.add(p0, f32x4.mul(x, left));
    p1 = f32x4.add(p1, f32x4.mul(x, right));
    x = v128.load32_splat(a + step);
    q0 = f32x4.add(q0, f32x4.mul(x, left));
    q1 = f32x4.add(q1, f32x4.mul(x, right));
    x = v128.load32_splat(a + step * 2);
    r0 = f32x4.add(r0, f32x4.mul(x, left));
    r1 = f32x4.add(r1, f32x4.mul(x, right));
    x = v128.load32_splat(a + step * 3);
    s0 = f32x4.add(s0, f32x4.mul(x, left));
    s1 = f32x4.add(s1, f32x4.mul(x, right));
  }
  v128.store(c, p0);
  v128.store(c, p1, 16);
  v128.store(c + width, q0);
  v128.store(c + width, q1, 16);
  v128.store(c + width * 2, r0);
  v128.store(c + width * 2, r1, 16);
  v128.store(c + width * 3, s0);
  v128.store(c + width * 3, s1, 16);
}

function tile1x4(a: usize, k: u32, b: usize, n: u32, c: usize): void {
  let sum = f32x4.splat(0);
  for (const end = a + (k << 2); a < end; a += 4, b += n << 2) {
    sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(a), v128.load(b)));
  }
  v128.store(c, sum);
}

function tile1x4Scalar(a: usize, k: u32, b: usize, n: u32, c: usize): void {
  let p: f32 = 0, q: f32 = 0, r: f32 = 0, s: f32 = 0;
  for (const end = a + (k << 2); a < end; a += 4, b += n << 2) {
    const x = load<f32>(a);
    p += x * load<f32>(b);
    q += x * load<f32>(b, 4);
    r += x * load<f32>(b, 8);
    s += x * load<f32>(b, 12);
  }
  store<f32>(c, p);
  store<f32>(c, q, 4);
  store<f32>(c, r, 8);
  store<f32>(c, s, 12);
}
