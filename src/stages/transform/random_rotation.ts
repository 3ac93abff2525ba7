/**
 * Random rotations of a head, the same on every engine (TurboQuant, arXiv 2504.19874, §3.1).
 *
 * @module
 */
import { fillGaussian } from "../../profile/random.ts";

/** Independent standard normal numbers [dim][dim]. */
export function gaussianMatrix(dim: number, seed: number): Float64Array {
  const out = new Float64Array(dim * dim);
  fillGaussian(out, seed);
  return out;
}

/** Rows of a rotation [dim][dim], uniform over all rotations: the Q of a Gaussian matrix. */
export function randomRotation(dim: number, seed: number): Float64Array {
  const out = gaussianMatrix(dim, seed);
  for (let r = 0; r < dim; r++) {
    const row = out.subarray(r * dim, (r + 1) * dim);
    // Twice is enough to be orthogonal to rounding.
    for (let round = 0; round < 2; round++) {
      for (let before = 0; before < r; before++) {
        let dot = 0;
        for (let i = 0; i < dim; i++) dot += row[i] * out[before * dim + i];
        for (let i = 0; i < dim; i++) row[i] -= dot * out[before * dim + i];
      }
    }
    let squares = 0;
    for (let i = 0; i < dim; i++) squares += row[i] * row[i];
    const norm = Math.sqrt(squares);
    for (let i = 0; i < dim; i++) row[i] /= norm;
  }
  return out;
}

/** Transpose of [dim][dim]. */
export function transposed(matrix: Float64Array, dim: number): Float64Array {
  const out = new Float64Array(matrix.length);
  for (let r = 0; r < dim; r++) for (let c = 0; c < dim; c++) out[c * dim + r] = matrix[r * dim + c];
  return out;
}

/**
 * y = matrix · x for every row x of [rows][dim], summed in float64 in order of the columns. Four rows and two outputs at
 * a time, so that loads do not bound it.
 */
export function multiplyRows(x: Float32Array, matrix: Float64Array, dim: number, y: Float32Array): void {
  const rows = x.length / dim;
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    const [a, b, c, d] = [r * dim, (r + 1) * dim, (r + 2) * dim, (r + 3) * dim];
    let k = 0;
    for (; k + 2 <= dim; k += 2) {
      const [m, n] = [k * dim, (k + 1) * dim];
      let a0 = 0, b0 = 0, c0 = 0, d0 = 0, a1 = 0, b1 = 0, c1 = 0, d1 = 0;
      for (let i = 0; i < dim; i++) {
        const p = matrix[m + i];
        const q = matrix[n + i];
        const xa = x[a + i], xb = x[b + i], xc = x[c + i], xd = x[d + i];
        a0 += p * xa;
        b0 += p * xb;
        c0 += p * xc;
        d0 += p * xd;
        a1 += q * xa;
        b1 += q * xb;
        c1 += q * xc;
        d1 += q * xd;
      }
      y[a + k] = a0;
      y[b + k] = b0;
      y[c + k] = c0;
      y[d + k] = d0;
      y[a + k + 1] = a1;
      y[b + k + 1] = b1;
      y[c + k + 1] = c1;
      y[d + k + 1] = d1;
    }
    for (; k < dim; k++) {
      for (let row = r; row < r + 4; row++) y[row * dim + k] = dot(matrix, k * dim, x, row * dim, dim);
    }
  }
  for (; r < rows; r++) for (let k = 0; k < dim; k++) y[r * dim + k] = dot(matrix, k * dim, x, r * dim, dim);
}

function dot(matrix: Float64Array, m: number, x: Float32Array, at: number, dim: number): number {
  let sum = 0;
  for (let i = 0; i < dim; i++) sum += matrix[m + i] * x[at + i];
  return sum;
}
