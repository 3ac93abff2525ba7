/**
 * ThinK (arXiv 2407.21018): which channels of a head's keys matter to the last queries.
 *
 * @module
 */

/**
 * Score of each channel j: mean of q_j² over queries and query heads × mean of k_j² over tokens (authors' code,
 * kv_pruning_utils.py). That is ‖Q[:, j] K[:, j]ᵀ‖_F² of the paper's Eq. 5 but for the number of its entries, since the
 * norm of an outer product is the product of the norms.
 *
 * @param queries last queries of each query head of the group, [queries][dim]
 * @param keys [tokens][dim]
 * @param tokens rows of `keys` to count, absent: all
 */
export function channelScores(
  queries: readonly Float32Array[],
  keys: Float32Array,
  dim: number,
  tokens?: readonly number[],
): Float64Array {
  const ofQueries = new Float64Array(dim);
  for (const rows of queries) meanSquares(rows, dim, null).forEach((x, j) => ofQueries[j] += x / queries.length);
  const ofKeys = meanSquares(keys, dim, tokens ?? null);
  return ofKeys.map((x, j) => x * ofQueries[j]);
}

/** Mean of the squares of each column. */
function meanSquares(rows: Float32Array, dim: number, chosen: readonly number[] | null): Float64Array {
  const count = chosen?.length ?? rows.length / dim;
  const out = new Float64Array(dim);
  for (let i = 0; i < count; i++) {
    const at = (chosen === null ? i : chosen[i]) * dim;
    for (let j = 0; j < dim; j++) out[j] += rows[at + j] * rows[at + j] / count;
  }
  return out;
}

/** Masks of channels, [heads][dim] of zeros and ones, as bits: a head's padded to a whole byte, the first channel lowest. */
export function packMasks(masks: Uint8Array, dim: number): Uint8Array {
  const width = Math.ceil(dim / 8);
  const heads = masks.length / dim;
  const out = new Uint8Array(heads * width);
  for (let head = 0; head < heads; head++) {
    for (let j = 0; j < dim; j++) out[head * width + (j >> 3)] |= masks[head * dim + j] << (j & 7);
  }
  return out;
}

/** Inverse of {@linkcode packMasks}; null where the padding is not zero. */
export function unpackMasks(bytes: Uint8Array, heads: number, dim: number): Uint8Array | null {
  const width = Math.ceil(dim / 8);
  const out = new Uint8Array(heads * dim);
  for (let head = 0; head < heads; head++) {
    for (let j = 0; j < dim; j++) out[head * dim + j] = bytes[head * width + (j >> 3)] >> (j & 7) & 1;
    if ((dim & 7) !== 0 && bytes[head * width + width - 1] >> (dim & 7) !== 0) return null;
  }
  return out;
}
