/**
 * Whether blocks can be second moments: symmetric, and no direction of negative weight. What cannot be would be found in
 * no figure of the fit, only in what a model says afterwards.
 *
 * @module
 */

/** Rounding of a block's entries to float32 or binary16 moves its eigenvalues by less than this share of its trace. */
const TOLERANCE = 2 ** -11;

/**
 * What keeps a block [dim][dim] from being a matrix of second moments, null if nothing does. Semidefinite is what has a
 * Cholesky decomposition once a little is added to its diagonal.
 */
export function flawOfMoments(block: Float64Array, dim: number): string | null {
  let trace = 0;
  for (let i = 0; i < dim; i++) {
    const entry = block[i * dim + i];
    if (!(entry >= 0 && entry < Infinity)) return `has ${shown(entry)} on its diagonal`;
    trace += entry;
  }
  const allowed = TOLERANCE * trace;
  const lower = new Float64Array(dim * dim);
  for (let i = 0; i < dim; i++) {
    for (let j = 0; j <= i; j++) {
      const [entry, mirrored] = [block[i * dim + j], block[j * dim + i]];
      if (!(Math.abs(entry - mirrored) <= allowed)) {
        return `is not symmetric: ${shown(entry)} and ${shown(mirrored)} at [${i}][${j}] and [${j}][${i}]`;
      }
      let sum = i === j ? entry + allowed : entry;
      for (let k = 0; k < j; k++) sum -= lower[i * dim + k] * lower[j * dim + k];
      const pivot = lower[j * dim + j];
      if (i === j ? sum < 0 : pivot === 0 && sum !== 0) {
        return "has a direction of negative weight: it is no matrix of second moments";
      }
      lower[i * dim + j] = i === j ? Math.sqrt(sum) : pivot === 0 ? 0 : sum / pivot;
    }
  }
  return null;
}

function shown(value: number): string {
  return String(Number(value.toPrecision(4)));
}
