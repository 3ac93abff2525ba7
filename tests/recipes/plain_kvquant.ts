/**
 * KVQuant told plainly in float64: quantiles of sorted elements, the nearest entry by trying all. No code of the recipe.
 *
 * @module
 */

/** What a row of channels is quantized with. */
export interface PlainRow {
  /** Low and high of each channel; null: found in the row itself. */
  readonly thresholds: readonly (readonly [number, number])[] | null;
  /** Percent of outliers. */
  readonly outliers: number;
  readonly codebook: ArrayLike<number>;
  /** Scale and offset of Q-Norm. */
  readonly norm?: readonly [number, number];
}

/** numpy.quantile. */
export function plainQuantile(numbers: readonly number[], share: number): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return below + (at - Math.floor(at)) * (above - below);
}

/** A row restored: outliers as they are, the others from their codes. Rows without ties at a quantile. */
export function plainRow(row: readonly number[], { thresholds, outliers, codebook, norm }: PlainRow): number[] {
  let ranges = thresholds;
  let outlying = row.map((x, c) => outliers > 0 && ranges !== null && (x < ranges[c][0] || x > ranges[c][1]));
  if (ranges === null) {
    const beyond = outliers / 200;
    // A little within, since the quantile of a whole number of elements may be rounded.
    const [lower, upper] = [plainQuantile(row, beyond) + 1e-9, plainQuantile(row, 1 - beyond) - 1e-9];
    outlying = row.map((x) => outliers > 0 && (x <= lower || x >= upper));
    const inner = row.filter((_, c) => !outlying[c]);
    const range = [Math.min(...inner), Math.max(...inner)] as const;
    ranges = row.map(() => range);
  }
  return row.map((x, c) => {
    if (outlying[c]) return x;
    const [low, high] = ranges[c];
    const [middle, half] = [(low + high) / 2, (high - low) / 2];
    const y = half > 0 ? (x - middle) / half : 0;
    let best = 0;
    for (let i = 1; i < codebook.length; i++) if (Math.abs(y - codebook[i]) < Math.abs(y - codebook[best])) best = i;
    const entry = codebook[best];
    return middle + half * (norm === undefined ? entry : Math.fround(entry * norm[0] + norm[1]));
  });
}
