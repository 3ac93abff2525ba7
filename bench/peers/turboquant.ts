/**
 * What TurboQuant draws and designs: a random rotation and the Lloyd–Max codebook of a coordinate of a unit vector.
 *
 * @module
 */

/** Rows of a random rotation [dim][dim]: Gram–Schmidt on Gaussian vectors. */
export function gaussianRotation(dim: number, seed: number): Float64Array {
  const next = mulberry32(seed);
  const out = new Float64Array(dim * dim);
  for (let r = 0; r < dim; r++) {
    const row = out.subarray(r * dim, (r + 1) * dim);
    for (let i = 0; i < dim; i++) {
      row[i] = Math.sqrt(-2 * Math.log(next() + 1e-12)) * Math.cos(2 * Math.PI * next());
    }
    // Twice is enough to be orthogonal to rounding.
    for (let round = 0; round < 2; round++) {
      for (let before = 0; before < r; before++) {
        let dot = 0;
        for (let i = 0; i < dim; i++) dot += row[i] * out[before * dim + i];
        for (let i = 0; i < dim; i++) row[i] -= dot * out[before * dim + i];
      }
    }
    const norm = Math.hypot(...row);
    for (let i = 0; i < dim; i++) row[i] /= norm;
  }
  return out;
}

/** The 2^width levels that serve a coordinate of a unit vector best: density ∝ (1 − x²)^((dim − 3) / 2). */
export function lloydMaxSphere(dim: number, width: number): Float64Array {
  const count = 2 ** width;
  const points = 20_001;
  const grid = Float64Array.from({ length: points }, (_, i) => -1 + 2 * i / (points - 1));
  const density = grid.map((x) => Math.max(0, 1 - x * x) ** ((dim - 3) / 2));
  let levels = Float64Array.from({ length: count }, (_, k) => (2 * (k + 0.5) / count - 1) * 3 / Math.sqrt(dim));
  for (let round = 0; round < 300; round++) {
    const mass = new Float64Array(count);
    const moment = new Float64Array(count);
    let k = 0;
    for (let i = 0; i < points; i++) {
      while (k < count - 1 && grid[i] > (levels[k] + levels[k + 1]) / 2) k++;
      mass[k] += density[i];
      moment[k] += density[i] * grid[i];
    }
    levels = levels.map((level, j) => mass[j] > 0 ? moment[j] / mass[j] : level);
  }
  return levels;
}

function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = state + 0x6d2b79f5 | 0;
    let t = Math.imul(state ^ state >>> 15, 1 | state);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}
