/**
 * Scalar codebooks for coordinates of unit vectors (TurboQuant, arXiv 2504.19874, Eq. 4): the Lloyd–Max quantizer of the
 * density ∝ (1 − x²)^((dim − 3) / 2), which a coordinate of a uniformly random unit vector has.
 *
 * @module
 */

/** Points of the grid on [−1, 1]. */
const POINTS = 20_000;
const ROUNDS = 300;

/** x^(n / 2) for a whole number n ≥ 0, by products and one root. */
function halfPower(x: number, n: number): number {
  let result = n % 2 === 1 ? Math.sqrt(x) : 1;
  for (let k = Math.floor(n / 2), factor = x; k > 0; k = Math.floor(k / 2), factor *= factor) {
    if (k % 2 === 1) result *= factor;
  }
  return result;
}

/** The 2^bits levels that serve a coordinate of a unit vector of `dim` ≥ 3 dimensions best, rising. */
export function sphereCodebook(dim: number, bits: number): Float64Array {
  const count = 1 << bits;
  const spread = 1 / Math.sqrt(dim);
  // Beyond eight spreads there is nothing.
  const reach = Math.min(1, 8 * spread);
  const grid = Float64Array.from({ length: POINTS }, (_, i) => reach * ((2 * i + 1) / POINTS - 1));
  const density = grid.map((x) => halfPower(1 - x * x, dim - 3));
  let levels = Float64Array.from({ length: count }, (_, k) => (2 * (k + 0.5) / count - 1) * Math.min(1, 3 * spread));
  for (let round = 0; round < ROUNDS; round++) {
    const mass = new Float64Array(count);
    const moment = new Float64Array(count);
    let k = 0;
    for (let i = 0; i < POINTS; i++) {
      while (k < count - 1 && grid[i] > (levels[k] + levels[k + 1]) / 2) k++;
      mass[k] += density[i];
      moment[k] += density[i] * grid[i];
    }
    const means = levels.map((level, j) => mass[j] > 0 ? moment[j] / mass[j] : level);
    // The density is even, so are the levels.
    levels = means.map((mean, j) => (mean - means[count - 1 - j]) / 2);
  }
  return levels;
}
