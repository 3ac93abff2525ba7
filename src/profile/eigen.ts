/**
 * All eigenvalues and eigenvectors of a symmetric matrix: Householder reduction to tridiagonal form and the implicit QL
 * iteration (EISPACK's tred2 and tql2, Bowdler, Martin, Reinsch and Wilkinson 1968, here after JAMA).
 *
 * The O(n³) parts are kernels. QL itself is O(n²) scalar work and stays here: it records its rotations, and a kernel
 * applies them some hundred sweeps at a time to strips of eight columns, which then come from the cache.
 *
 * @module
 */
import type { CalibrateKernels } from "../backend/wasm/calibrate_kernels.ts";

/** Hears how far a computation is, from 0 to 1. */
export type Progress = (fraction: number) => void;

/** Rows of the reduction done between two reports. */
const STEP = 64;
/** Rows of the orthogonal matrix formed by one call: the reflectors pass through the cache once for all of them. */
const FORM_ROWS = 16;
/** Most sweeps of an eigenvalue; QL needs two on average, more than 30 were never seen. */
const MAX_SWEEPS = 60;

/**
 * Decomposes the symmetric matrix a, float64 [n][n] with row stride n, of which the lower triangle is read. It is
 * overwritten. Returns eigenvalues in descending order and writes eigenvector i as row i of `vectors`, float64 [n][n].
 *
 * Eigenvalues are accurate to about n · 2⁻⁵³ times the largest one.
 */
export function symmetricEigen(
  kernels: CalibrateKernels,
  a: number,
  n: number,
  vectors: number,
  onProgress: Progress = () => {},
): Float64Array {
  if (n === 0) return new Float64Array();
  const { exports } = kernels;
  const mark = kernels.mark();
  const [d, e, tau] = [0, 1, 2].map(() => kernels.alloc(n * 8));
  const work = kernels.alloc(2 * n * 8);
  for (let i = n - 1; i >= 0; i -= STEP) {
    exports.tridiagonalize(n, a, d, e, tau, work, i, Math.max(0, i - STEP + 1));
    onProgress(0.3 * (1 - ((i + 1) / n) ** 3));
  }
  for (let i = 0; i < n; i += FORM_ROWS) {
    exports.formRows(n, a, tau, vectors, i, Math.min(n, i + FORM_ROWS));
    onProgress(0.3 + 0.2 * (1 - ((n - i) / n) ** 2));
  }
  const rotations = new RotationBuffer(kernels, n, vectors);
  const values = kernels.f64(d, n).slice();
  const below = new Float64Array(n);
  below.set(kernels.f64(e, n).subarray(1));
  qlImplicit(values, below, rotations, (fraction) => onProgress(0.5 + 0.5 * fraction));
  rotations.flush();
  kernels.release(mark);

  const order = Array.from(values.keys()).sort((i, j) => values[j] - values[i]);
  permuteRows(kernels.f64(vectors, n * n), n, order);
  onProgress(1);
  return Float64Array.from(order, (i) => values[i]);
}

/** Rotations on their way to the eigenvectors. */
class RotationBuffer {
  readonly #kernels: CalibrateKernels;
  readonly #n: number;
  readonly #vectors: number;
  readonly #capacity: number;
  readonly #sweepCapacity = 512;
  readonly #rotationsAt: number;
  readonly #sweepsAt: number;
  readonly #strip: number;
  readonly #rotations: Float64Array;
  readonly #sweeps: Int32Array;
  #rotationCount = 0;
  #sweepCount = 0;

  constructor(kernels: CalibrateKernels, n: number, vectors: number) {
    this.#kernels = kernels;
    this.#n = n;
    this.#vectors = vectors;
    this.#capacity = Math.max(4 * n, 1 << 18);
    this.#rotationsAt = kernels.alloc(this.#capacity * 16);
    this.#sweepsAt = kernels.alloc(this.#sweepCapacity * 12);
    this.#strip = kernels.alloc(n * 64);
    this.#rotations = kernels.f64(this.#rotationsAt, this.#capacity * 2);
    this.#sweeps = kernels.i32(this.#sweepsAt, this.#sweepCapacity * 3);
  }

  /** Begins a sweep over the pairs (m − 1, m), …, (l, l + 1). */
  begin(m: number, l: number): void {
    if (this.#sweepCount === this.#sweepCapacity || this.#rotationCount + m - l > this.#capacity) this.flush();
    this.#sweeps.set([this.#rotationCount, m, l], 3 * this.#sweepCount++);
  }

  /** Adds the next rotation of the sweep. */
  push(c: number, s: number): void {
    const at = 2 * this.#rotationCount++;
    this.#rotations[at] = c;
    this.#rotations[at + 1] = s;
  }

  /** Applies what has been recorded. */
  flush(): void {
    for (let column = 0; column < this.#n; column += 8) {
      this.#kernels.exports.applyRotations(
        this.#n,
        this.#vectors,
        column,
        Math.min(8, this.#n - column),
        this.#rotationsAt,
        this.#sweepsAt,
        this.#sweepCount,
        this.#strip,
      );
    }
    this.#rotationCount = this.#sweepCount = 0;
  }
}

/**
 * Implicit QL on the tridiagonal matrix with diagonal d [n] and subdiagonal e [n] (e[n − 1] = 0). d becomes the
 * eigenvalues, in no order.
 */
function qlImplicit(d: Float64Array, e: Float64Array, rotations: RotationBuffer, onProgress: Progress): void {
  const n = d.length;
  let shifts = 0;
  let largest = 0;
  for (let l = 0; l < n; l++) {
    largest = Math.max(largest, Math.abs(d[l]) + Math.abs(e[l]));
    const negligible = Number.EPSILON * largest;
    let m = l;
    while (m < n - 1 && Math.abs(e[m]) > negligible) m++;
    for (let sweep = 0; m > l && (sweep === 0 || Math.abs(e[l]) > negligible); sweep++) {
      if (sweep === MAX_SWEEPS) throw new RangeError("Cannot decompose matrix: QL does not converge");
      shifts += shift(d, e, l);
      rotations.begin(m, l);
      sweepDown(d, e, l, m, rotations);
    }
    d[l] += shifts;
    e[l] = 0;
    if (l % STEP === 0) onProgress(1 - ((n - l) / n) ** 2);
  }
}

/** Subtracts the shift of eigenvalue l from the diagonal and returns it. d[l] and d[l + 1] are set for the sweep. */
function shift(d: Float64Array, e: Float64Array, l: number): number {
  const p = (d[l + 1] - d[l]) / (2 * e[l]);
  const r = p + Math.sign(p || 1) * Math.hypot(p, 1);
  const h = d[l] - e[l] / r;
  d[l] = e[l] / r;
  d[l + 1] = e[l] * r;
  for (let i = l + 2; i < d.length; i++) d[i] -= h;
  return h;
}

/** One QL sweep on rows l to m. */
function sweepDown(d: Float64Array, e: Float64Array, l: number, m: number, rotations: RotationBuffer): void {
  const dl1 = d[l + 1];
  const el1 = e[l + 1];
  let p = d[m];
  let [c, c2, c3, s, s2] = [1, 1, 1, 0, 0];
  for (let i = m - 1; i >= l; i--) {
    c3 = c2;
    c2 = c;
    s2 = s;
    const g = c * e[i];
    const h = c * p;
    const r = Math.sqrt(p * p + e[i] * e[i]);
    e[i + 1] = s * r;
    s = e[i] / r;
    c = p / r;
    p = c * d[i] - s * g;
    d[i + 1] = h + s * (c * g + s * d[i]);
    rotations.push(c, s);
  }
  p = -s * s2 * c3 * el1 * e[l] / dl1;
  e[l] = s * p;
  d[l] = c * p;
}

/** Puts row order[i] of a matrix [n][n] at i, in place, cycle by cycle. */
function permuteRows(matrix: Float64Array, n: number, order: readonly number[]): void {
  const done = new Uint8Array(n);
  const first = new Float64Array(n);
  for (let start = 0; start < n; start++) {
    if (done[start]) continue;
    first.set(matrix.subarray(start * n, (start + 1) * n));
    let i = start;
    for (done[i] = 1; order[i] !== start; done[i = order[i]] = 1) {
      matrix.copyWithin(i * n, order[i] * n, (order[i] + 1) * n);
    }
    matrix.set(first, i * n);
  }
}
