/**
 * DiffKV's rule for the prompt (`compress_and_append_cache_prompt_phase_kernel` of its authors): how precisely each KV head
 * of each layer keeps each token, by the attention that the last queries pay to it.
 *
 * @module
 */

/** Marks of a token of a head. */
export const CLASSES = { pruned: 0, high: 1, low: 2 } as const;

/** Queries that vote. */
export const SCORED_QUERIES = 64;

/** Thresholds in units of 1 / tokens, and the newest tokens that they do not touch. */
export interface Thresholds {
  readonly alphaHigh: number;
  readonly alphaLow: number;
  readonly buffer: number;
}

/**
 * Classes of the tokens of one KV head.
 *
 * @param sums attention that each token received, summed over the last 64 queries (or all, where there are fewer), of each
 * query head of the group: the largest counts
 */
export function classify(
  sums: readonly Float64Array[],
  { alphaHigh, alphaLow, buffer }: Thresholds,
  classes: Uint8Array,
  scores: Float32Array,
): void {
  const tokens = classes.length;
  for (let t = 0; t < tokens; t++) {
    let score = 0;
    for (const of of sums) score = Math.max(score, of[t]);
    scores[t] = score;
    const mean = score / Math.min(tokens - t, SCORED_QUERIES);
    if (tokens - t <= buffer) classes[t] = CLASSES.high;
    else {classes[t] = mean < alphaLow / tokens
        ? CLASSES.pruned
        : mean < alphaHigh / tokens
        ? CLASSES.low
        : CLASSES.high;}
  }
}
