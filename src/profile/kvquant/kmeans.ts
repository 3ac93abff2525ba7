/**
 * Weighted k-means of points on a line.
 *
 * @module
 */

/** Rounds at most, as the authors of KVQuant allow scikit-learn. */
const ROUNDS = 50;

/** Points by rising value, each with a weight above 0. */
export interface WeightedPoints {
  readonly values: Float64Array;
  readonly weights: Float64Array;
}

/**
 * Lloyd's algorithm from weighted quantiles, until no point changes its cluster or for 50 rounds. A point in the middle
 * between two centres belongs to the lower one; a centre that loses all points stays where it is.
 *
 * @returns `count` centres, rising (equal where there are fewer values than centres)
 */
export function lineMeans({ values, weights }: WeightedPoints, count: number): Float64Array {
  const sums = new Float64Array(values.length + 1);
  const moments = new Float64Array(values.length + 1);
  for (let i = 0; i < values.length; i++) {
    sums[i + 1] = sums[i] + weights[i];
    moments[i + 1] = moments[i] + weights[i] * values[i];
  }
  const total = sums[values.length];
  const centres = Float64Array.from(
    { length: count },
    (_, i) => values[Math.min(values.length, firstAbove(sums, (i + 0.5) / count * total)) - 1],
  );
  let ends = new Float64Array(count).fill(-1);
  for (let round = 0; round < ROUNDS; round++) {
    const found = ends.map((_, i) =>
      i + 1 < count ? firstAbove(values, (centres[i] + centres[i + 1]) / 2) : values.length
    );
    if (found.every((end, i) => end === ends[i])) break;
    ends = found;
    for (let i = 0, begin = 0; i < count; begin = ends[i++]) {
      const weight = sums[ends[i]] - sums[begin];
      if (weight > 0) centres[i] = (moments[ends[i]] - moments[begin]) / weight;
    }
  }
  return centres;
}

/** Index of the first of rising numbers above `x`, their count where there is none. */
function firstAbove(numbers: Float64Array, x: number): number {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] > x) high = middle;
    else low = middle + 1;
  }
  return low;
}
