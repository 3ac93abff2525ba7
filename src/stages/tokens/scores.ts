/**
 * From scores of tokens to the tokens that a head keeps.
 *
 * @module
 */

/** How scores of neighbours are joined, so that what is kept is no scattered words (SnapKV §4.2). */
export type Pooling = "avg" | "max" | "none";

/**
 * Pools the first `length` scores with a centred kernel of odd size and stride 1, as PyTorch's avg_pool1d (padding counts as
 * zeros) and max_pool1d do.
 */
export function poolScores(scores: Float64Array, length: number, pooling: Pooling, kernel: number): Float64Array {
  if (pooling === "none") return scores.slice(0, length);
  const half = (kernel - 1) / 2;
  const out = new Float64Array(length);
  for (let t = 0; t < length; t++) {
    const [begin, end] = [Math.max(0, t - half), Math.min(length, t + half + 1)];
    let [sum, top] = [0, -Infinity];
    for (let i = begin; i < end; i++) {
      sum += scores[i];
      top = Math.max(top, scores[i]);
    }
    out[t] = pooling === "avg" ? sum / kernel : top;
  }
  return out;
}

/** Indices of the `count` largest scores, rising; of equal ones the first. */
export function topIndices(scores: ArrayLike<number>, count: number): number[] {
  const order = Array.from({ length: scores.length }, (_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

/** Sets the marks of tokens [begin, end) of a row. */
export function markRange(row: Uint8Array, begin: number, end: number): void {
  row.fill(1, Math.max(0, begin), Math.max(0, end));
}
