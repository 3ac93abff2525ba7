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
