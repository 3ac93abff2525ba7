/**
 * The inverse of a Gram matrix of nearly orthonormal rows.
 *
 * @module
 */

/** Added to the diagonal's mean, and the least pivot: a row that rounding left nothing of shall not blow up others. */
const RIDGE = 1e-4;

/**
 * (G + ridge)⁻¹ by Cholesky's decomposition, in float64 and in one order: the same bits on every engine.
 *
 * @param gram [n][n], symmetric up to rounding: the mean of both halves is taken
 * @returns [n][n], symmetric
 */
export function invertGram(gram: ArrayLike<number>, n: number): Float64Array {
  const lower = new Float64Array(n * n);
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram[i * n + i];
  const ridge = RIDGE * (trace > 0 ? trace / n : 1);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = (gram[i * n + j] + gram[j * n + i]) / 2;
      for (let k = 0; k < j; k++) sum -= lower[i * n + k] * lower[j * n + k];
      lower[i * n + j] = i === j ? Math.sqrt(Math.max(sum + ridge, ridge)) : sum / lower[j * n + j];
    }
  }
  // L⁻¹, row by row below the diagonal, transposed so that the sums below run along rows.
  const roots = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    roots[i * n + i] = 1 / lower[i * n + i];
    for (let j = 0; j < i; j++) {
      let sum = 0;
      for (let k = j; k < i; k++) sum += lower[i * n + k] * roots[j * n + k];
      roots[j * n + i] = -sum / lower[i * n + i];
    }
  }
  const inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = i; k < n; k++) sum += roots[i * n + k] * roots[j * n + k];
      inverse[i * n + j] = inverse[j * n + i] = sum;
    }
  }
  return inverse;
}
