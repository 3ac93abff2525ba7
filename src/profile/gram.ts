/**
 * Count, mean and centred Gram matrix of feature rows, streamed and mergeable.
 *
 * @module
 */
import type { CalibrateKernels } from "../backend/wasm/calibrate_kernels.ts";
import type { SymmetricMatrix } from "./svd.ts";

/** Second-order statistics of one kind's rows. */
export interface Moments {
  /** Rows counted. */
  readonly count: number;
  /** Mean of each feature: [features]. */
  readonly mean: Float64Array;
  /** Σ (x − mean)(x − mean)ᵀ: upper triangle, row by row, features · (features + 1) / 2 values. */
  readonly comoment: Float64Array;
}

/** Length of the packed upper triangle of a matrix [n][n]. */
export function triangleLength(n: number): number {
  return n * (n + 1) / 2;
}

/** Index of element (i, i) in a packed upper triangle of [n][n]. */
export function triangleRow(n: number, i: number): number {
  return i * n - i * (i - 1) / 2;
}

/**
 * Accumulates Σ (x − c) and Σ (x − c)(x − c)ᵀ about a provisional centre c, the mean of the first block. With c near the
 * mean, both stay of the size of the data's spread, so that taking the rest of the mean out at the end cancels nothing
 * of value: Σ (x − µ)(x − µ)ᵀ = Σ (x − c)(x − c)ᵀ − s sᵀ / n with s = Σ (x − c) (Chan, Golub and LeVeque 1979).
 */
export class GramAccumulator {
  readonly features: number;
  readonly #kernels: CalibrateKernels;
  readonly #stride: number;
  readonly #gram: number;
  readonly #shift: number;
  readonly #sums: number;
  readonly #mark: number;
  #count = 0;
  #centred = false;

  constructor(kernels: CalibrateKernels, features: number) {
    this.features = features;
    this.#kernels = kernels;
    this.#stride = kernels.exports.gramStride(features);
    this.#gram = kernels.alloc(this.#stride * this.#stride * 8);
    this.#shift = kernels.alloc(features * 4);
    this.#sums = kernels.alloc(features * 8);
    this.#mark = kernels.mark();
    kernels.u8(this.#gram, this.#stride * this.#stride * 8).fill(0);
    kernels.f64(this.#sums, features).fill(0);
  }

  /** Rows so far. */
  get count(): number {
    return this.#count;
  }

  /**
   * Adds rows, float32 [rows][stride]. A few hundred at a time are best (see asm/calibrate/gram.ts).
   *
   * @throws {RangeError} when a value is not finite; the rows have then been added and the accumulator is of no use.
   */
  add(x: Float32Array, rows: number, stride: number): void {
    if (rows === 0) return;
    this.#requireOpen();
    const { exports } = this.#kernels;
    const { features } = this;
    if (this.#count === 0) this.#setShift(meanOf(x, rows, stride, features));
    const source = this.#kernels.alloc(rows * stride * 4);
    const panels = this.#kernels.alloc(exports.gramDepth(rows) * this.#stride * 4);
    this.#kernels.f32(source, rows * stride).set(x.subarray(0, rows * stride));
    exports.packRows(source, rows, stride, features, this.#shift, this.#sums, panels);
    if (!this.#kernels.f64(this.#sums, features).every(Number.isFinite)) {
      throw new RangeError("Cannot accumulate rows: a value is not a finite number");
    }
    exports.gramUpdate(panels, rows, features, this.#gram);
    this.#count += rows;
    this.#kernels.release(this.#mark);
  }

  /** Adds the rows behind other statistics, of the same features. */
  merge({ count, mean, comoment }: Moments): void {
    if (count === 0) return;
    this.#requireOpen();
    const { features } = this;
    if (mean.length !== features || comoment.length !== triangleLength(features)) {
      throw new RangeError(`Cannot merge statistics: they have ${mean.length} features, expected ${features}`);
    }
    if (this.#count === 0) this.#setShift(mean);
    const shift = this.#kernels.f32(this.#shift, features);
    const sums = this.#kernels.f64(this.#sums, features);
    const offset = mean.map((value, f) => value - shift[f]);
    for (let f = 0; f < features; f++) sums[f] += count * offset[f];
    for (let i = 0; i < features; i++) {
      const row = this.#row(i);
      const start = triangleRow(features, i);
      const a = count * offset[i];
      for (let j = i; j < features; j++) row[j] += comoment[start + j - i] + a * offset[j];
    }
    this.#count += count;
  }

  /** The statistics so far, copied out. */
  moments(): Moments {
    this.#requireOpen();
    const { features } = this;
    const comoment = new Float64Array(triangleLength(features));
    const sums = this.#kernels.f64(this.#sums, features);
    for (let i = 0; i < features; i++) {
      const row = this.#row(i);
      const start = triangleRow(features, i);
      const a = this.#count === 0 ? 0 : sums[i] / this.#count;
      for (let j = i; j < features; j++) comoment[start + j - i] = row[j] - a * sums[j];
    }
    return { count: this.#count, mean: this.#mean(), comoment };
  }

  /**
   * Takes the mean out in place and completes the lower triangle. Nothing can be added afterwards.
   *
   * @throws {RangeError} when the Gram matrix has overflowed.
   */
  centre(): { matrix: SymmetricMatrix; mean: Float64Array; trace: number } {
    this.#requireOpen();
    this.#centred = true;
    const { features } = this;
    const { exports } = this.#kernels;
    if (this.#count > 0) exports.rankOneUpdate(this.#gram, features, this.#sums, -1 / this.#count, 0, features);
    exports.mirror(this.#gram, features, this.#stride);
    let trace = 0;
    for (let i = 0; i < features; i++) trace += this.#row(i)[i];
    if (!Number.isFinite(trace)) throw new RangeError("Cannot accumulate rows: values are too large to be squared");
    return { matrix: { address: this.#gram, n: features, stride: this.#stride }, mean: this.#mean(), trace };
  }

  #mean(): Float64Array {
    const sums = this.#kernels.f64(this.#sums, this.features);
    const shift = this.#kernels.f32(this.#shift, this.features);
    return sums.map((sum, f) => this.#count === 0 ? 0 : shift[f] + sum / this.#count);
  }

  #row(i: number): Float64Array {
    return this.#kernels.f64(this.#gram + i * this.#stride * 8, this.#stride);
  }

  #setShift(centre: ArrayLike<number>): void {
    this.#kernels.f32(this.#shift, this.features).set(centre);
  }

  #requireOpen(): void {
    if (this.#centred) throw new RangeError("Cannot use statistics: they have been centred");
  }
}

/** Mean of the first `features` columns of x [rows][stride]. */
function meanOf(x: Float32Array, rows: number, stride: number, features: number): Float64Array {
  const sums = new Float64Array(features);
  for (let t = 0; t < rows; t++) {
    for (let f = 0, at = t * stride; f < features; f++, at++) sums[f] += x[at];
  }
  // A sum that is not finite would spoil every row; add() will report the value behind it.
  return sums.map((sum) => Number.isFinite(sum) ? sum / rows : 0);
}

/**
 * Merges two sets of statistics of disjoint rows (Chan, Golub and LeVeque 1979): with δ = µ₂ − µ₁,
 * C = C₁ + C₂ + n₁ n₂ / (n₁ + n₂) · δ δᵀ.
 *
 * @throws {RangeError} when the numbers of features differ.
 */
export function mergeMoments(a: Moments, b: Moments): Moments {
  const n = a.mean.length;
  if (b.mean.length !== n) {
    throw new RangeError(`Cannot merge statistics: they have ${n} and ${b.mean.length} features`);
  }
  const count = a.count + b.count;
  if (count === 0) return a;
  const delta = b.mean.map((value, f) => value - a.mean[f]);
  const mean = a.mean.map((value, f) => value + delta[f] * (b.count / count));
  const comoment = new Float64Array(a.comoment.length);
  const weight = a.count * (b.count / count);
  for (let i = 0, at = 0; i < n; i++) {
    const d = weight * delta[i];
    for (let j = i; j < n; j++, at++) comoment[at] = a.comoment[at] + b.comoment[at] + d * delta[j];
  }
  return { count, mean, comoment };
}
