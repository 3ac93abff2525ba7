/**
 * How many chunks a recipe with rANS has under way: on a GPU streams of several chunks are coded together.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { BYTES_PER_ELEMENT, type DType } from "../cache/types.ts";

/** Most jobs under way. */
const MOST_JOBS = 64;
/** Most bytes that the elements of as many chunks take on the host. */
const MOST_BYTES = 1 << 28;

/** One kind's part of a cache. */
interface KindShape {
  readonly layers: number;
  readonly heads: number;
  readonly dim: number;
}

/**
 * Jobs that may be under way at once where chunks have so many tokens of these kinds; one where the host codes streams.
 *
 * @param mostBytes that the elements of as many chunks take: more where codes stay on the device
 */
export function entropyJobs(
  backend: Backend,
  kinds: readonly KindShape[],
  dtype: DType,
  chunkTokens: number,
  mostBytes: number = MOST_BYTES,
): number {
  if (backend.gpu?.entropy == null) return 1;
  const elements = kinds.reduce((sum, { layers, heads, dim }) => sum + layers * heads * dim, 0);
  const bytes = chunkTokens * elements * BYTES_PER_ELEMENT[dtype];
  return Math.max(1, Math.min(MOST_JOBS, Math.floor(mostBytes / bytes)));
}
