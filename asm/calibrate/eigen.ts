// Symmetric eigenproblem: Householder reduction to tridiagonal form, the orthogonal matrix of the reduction, and the
// application of recorded Givens rotations. The QL iteration on the tridiagonal matrix itself is scalar work and lives
// in src/profile/eigen.ts.
import { axpy, dot, fold64, madd64, nmadd64 } from "./lanes";

/**
 * Steps i = from, from − 1, …, to (from = n − 1 first, to = 0 last) of the reduction of a [n][n] (row stride n, lower
 * triangle, overwritten): row i of the leading block is turned by a reflector H = 1 − tau·v·vᵀ into (0, …, 0, e[i]).
 * v [i] stays in row i. Yields d [n], e [n] (e[0] unused), tau [n]; A = Q·T·Qᵀ with Q = H(n−1)·…·H(1).
 *
 * The rank-2 update of a step waits for the next one, so that it and that step's matrix–vector product read the
 * triangle once. work: f64 [2][n]; what it holds must stay between calls.
 */
export function tridiagonalize(
  n: usize,
  a: usize,
  d: usize,
  e: usize,
  tau: usize,
  work: usize,
  from: i32,
  to: i32,
): void {
  for (let s = from; s >= to; s--) {
    const i = <usize>s;
    const row = a + i * n * 8;
    const pending = i + 1 < n && load<f64>(tau + (i + 1) * 8) != 0;
    const v0 = row + n * 8, w0 = work + ((i + 1) & 1) * n * 8;
    if (pending) update(row, v0, w0, load<f64>(v0 + i * 8), load<f64>(w0 + i * 8), i + 1);
    store<f64>(d + i * 8, load<f64>(row + i * 8));
    store<f64>(tau + i * 8, 0);
    if (i == 0) {
      store<f64>(e, 0);
      return;
    }
    const last = row + (i - 1) * 8;
    const alpha = load<f64>(last);
    const rest = dot(row, row, i - 1);
    if (rest == 0) {
      // Nothing to eliminate, but the pending update must not be lost.
      store<f64>(e + i * 8, alpha);
      if (pending) {
        for (let r: usize = 0; r < i; r++) {
          update(a + r * n * 8, v0, w0, load<f64>(v0 + r * 8), load<f64>(w0 + r * 8), r + 1);
        }
      }
      continue;
    }
    const beta = -copysign<f64>(sqrt(alpha * alpha + rest), alpha);
    const t = (beta - alpha) / beta;
    const inverse = 1 / (alpha - beta);
    for (let j: usize = 0; j + 1 < i; j++) store<f64>(row + j * 8, load<f64>(row + j * 8) * inverse);
    store<f64>(last, 1);
    store<f64>(e + i * 8, beta);
    store<f64>(tau + i * 8, t);

    // w = tau·A·v, then w −= tau/2·(w·v)·v.
    const w = work + (i & 1) * n * 8;
    memory.fill(w, 0, i * 8);
    for (let r: usize = 0; r < i; r++) {
      const ar = a + r * n * 8;
      if (pending) updateAndMultiply(ar, v0, w0, load<f64>(v0 + r * 8), load<f64>(w0 + r * 8), row, w, r);
      else multiply(ar, row, w, r);
    }
    const half = -0.5 * t * t * dot(w, row, i);
    for (let j: usize = 0; j < i; j++) {
      store<f64>(w + j * 8, t * load<f64>(w + j * 8) + half * load<f64>(row + j * 8));
    }
  }
}

/** a[j] −= vr · w[j] + wr · v[j], j < n. */
function update(a: usize, v: usize, w: usize, vr: f64, wr: f64, n: usize): void {
  axpy(-vr, w, a, n);
  axpy(-wr, v, a, n);
}

/** Row r of a symmetric product y += A·x from the lower triangle: y[r] += a·x, y[j] += a[j]·x[r]. */
function multiply(a: usize, x: usize, y: usize, r: usize): void {
  const xr = load<f64>(x + r * 8);
  const sum = dot(a, x, r) + load<f64>(a + r * 8) * xr;
  axpy(xr, a, y, r);
  store<f64>(y + r * 8, load<f64>(y + r * 8) + sum);
}

/** `update` of row r followed by `multiply`, in one pass. */
function updateAndMultiply(a: usize, v: usize, w: usize, vr: f64, wr: f64, x: usize, y: usize, r: usize): void {
  const xr = load<f64>(x + r * 8);
  let sum: f64 = 0;
  let j: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const vvr = f64x2.splat(vr), vwr = f64x2.splat(wr), vxr = f64x2.splat(xr);
    let s0 = f64x2.splat(0), s1 = s0;
    for (; j + 4 <= r; j += 4) {
      const at = j * 8;
      let p = v128.load(a + at), q = v128.load(a + at, 16);
      p = nmadd64(vvr, v128.load(w + at), p), q = nmadd64(vvr, v128.load(w + at, 16), q);
      p = nmadd64(vwr, v128.load(v + at), p), q = nmadd64(vwr, v128.load(v + at, 16), q);
      v128.store(a + at, p), v128.store(a + at, q, 16);
      s0 = madd64(p, v128.load(x + at), s0), s1 = madd64(q, v128.load(x + at, 16), s1);
      v128.store(y + at, madd64(vxr, p, v128.load(y + at)));
      v128.store(y + at, madd64(vxr, q, v128.load(y + at, 16)), 16);
    }
    sum = fold64(f64x2.add(s0, s1));
  }
  for (; j < r; j++) {
    const at = j * 8;
    const p = load<f64>(a + at) - vr * load<f64>(w + at) - wr * load<f64>(v + at);
    store<f64>(a + at, p);
    sum += p * load<f64>(x + at);
    store<f64>(y + at, load<f64>(y + at) + xr * p);
  }
  const diagonal = load<f64>(a + r * 8) - vr * load<f64>(w + r * 8) - wr * load<f64>(v + r * 8);
  store<f64>(a + r * 8, diagonal);
  store<f64>(y + r * 8, load<f64>(y + r * 8) + sum + diagonal * xr);
}

/**
 * Rows [begin, end) of Qᵀ [n][n] from the reflectors that tridiagonalize left in a. Row k of Qᵀ is eₖᵀ·H(1)·…·H(n−1);
 * H(i) does not touch it as long as i ≤ k.
 */
export function formRows(n: usize, a: usize, tau: usize, z: usize, begin: usize, end: usize): void {
  memory.fill(z + begin * n * 8, 0, (end - begin) * n * 8);
  for (let k = begin; k < end; k++) store<f64>(z + k * (n + 1) * 8, 1);
  // All rows of the call for one reflector, so that it is read from memory once.
  for (let i = begin + 1; i < n; i++) {
    const t = load<f64>(tau + i * 8);
    if (t == 0) continue;
    const v = a + i * n * 8;
    for (let k = begin; k < min(end, i); k++) {
      const row = z + k * n * 8;
      axpy(-t * dot(row, v, i), v, row, i);
    }
  }
}

/**
 * Applies sweeps of rotations to rows of z [n][n], columns [begin, begin + 8) (fewer at the end are given by `width`).
 * sweeps: i32 [count][3] = first rotation, m, l: for i = m − 1 down to l with the next (c, s) of `rotations`
 * (f64 [·][2]): h = z[i+1]; z[i+1] = s·z[i] + c·h; z[i] = c·z[i] − s·h. The columns are copied to `strip` (f64 [n][8])
 * and back, since sweeps go over them many times.
 */
export function applyRotations(
  n: usize,
  z: usize,
  begin: usize,
  width: usize,
  rotations: usize,
  sweeps: usize,
  count: usize,
  strip: usize,
): void {
  for (let r: usize = 0; r < n; r++) memory.copy(strip + r * 64, z + (r * n + begin) * 8, width * 8);
  for (let k: usize = 0; k < count; k++) {
    const sweep = sweeps + k * 12;
    const m = load<u32>(sweep, 4), l = load<u32>(sweep, 8);
    rotate(strip, m, l, rotations + (<usize>load<u32>(sweep)) * 16);
  }
  for (let r: usize = 0; r < n; r++) memory.copy(z + (r * n + begin) * 8, strip + r * 64, width * 8);
}

function rotate(strip: usize, m: usize, l: usize, rotation: usize): void {
  let at = strip + m * 64;
  const end = strip + l * 64;
  if (ASC_FEATURE_SIMD) {
    let h0 = v128.load(at), h1 = v128.load(at, 16), h2 = v128.load(at, 32), h3 = v128.load(at, 48);
    while (at > end) {
      at -= 64;
      const c = v128.load64_splat(rotation), s = v128.load64_splat(rotation, 8);
      rotation += 16;
      const z0 = v128.load(at), z1 = v128.load(at, 16), z2 = v128.load(at, 32), z3 = v128.load(at, 48);
      v128.store(at, madd64(s, z0, f64x2.mul(c, h0)), 64);
      v128.store(at, madd64(s, z1, f64x2.mul(c, h1)), 80);
      v128.store(at, madd64(s, z2, f64x2.mul(c, h2)), 96);
      v128.store(at, madd64(s, z3, f64x2.mul(c, h3)), 112);
      h0 = nmadd64(s, h0, f64x2.mul(c, z0)), h1 = nmadd64(s, h1, f64x2.mul(c, z1));
      h2 = nmadd64(s, h2, f64x2.mul(c, z2)), h3 = nmadd64(s, h3, f64x2.mul(c, z3));
    }
    v128.store(at, h0), v128.store(at, h1, 16), v128.store(at, h2, 32), v128.store(at, h3, 48);
  } else {
    while (at > end) {
      at -= 64;
      const c = load<f64>(rotation), s = load<f64>(rotation, 8);
      rotation += 16;
      for (let j: usize = 0; j < 64; j += 8) {
        const h = load<f64>(at + j, 64), x = load<f64>(at + j);
        store<f64>(at + j, s * x + c * h, 64);
        store<f64>(at + j, c * x - s * h);
      }
    }
  }
}
