/**
 * DiffKV's rule while a model generates (`compress_and_append_cache_decode_phase_kernel` of its authors): a token that comes
 * to a head is kept in high precision, and at most one older token makes room for it, the one that was attended to least.
 *
 * @module
 */
import type { Thresholds } from "./classes.ts";

/** Attention that a token of a head received. */
export interface ScoredToken {
  /** Sum over the queries so far, of each the largest of the group's heads. */
  readonly score: number;
  /** The sum is that of the queries from this token of the sequence on. */
  readonly since: number;
}

/**
 * What a new token does to a head: nothing but to come; or a token in high precision (its index among them) is pruned; or
 * it is demoted to low precision, in place of one there (its index) or beside those there (null).
 */
export type Decision =
  | { readonly act: "append" }
  | { readonly act: "prune"; readonly victim: number }
  | { readonly act: "demote"; readonly victim: number; readonly replaced: number | null };

/**
 * Decides about a head as token `index` of the sequence comes to it. Tokens that fewer than `buffer` queries have seen stay.
 *
 * @param high tokens in high precision
 * @param low tokens in low precision
 * @param index tokens that the sequence had before, whether the head still holds them or not
 */
export function decide(
  high: readonly ScoredToken[],
  low: readonly ScoredToken[],
  index: number,
  { alphaHigh, alphaLow, buffer }: Thresholds,
): Decision {
  if (high.length + low.length + 1 <= buffer) return { act: "append" };
  const left = leastAttended(high, index, buffer);
  const right = leastAttended(low, index, buffer);
  const [prune, demote] = [alphaLow / index, alphaHigh / index];
  if (left.mean < prune && left.mean < right.mean) return { act: "prune", victim: left.at };
  if (left.mean < demote) {
    return { act: "demote", victim: left.at, replaced: right.mean < prune ? right.at : null };
  }
  return { act: "append" };
}

/** The token with the smallest mean attention, the first of equal ones; an infinite mean where none may go. */
function leastAttended(tokens: readonly ScoredToken[], index: number, buffer: number): { at: number; mean: number } {
  let [at, mean] = [-1, Infinity];
  for (let i = 0; i < tokens.length; i++) {
    const queries = index - tokens[i].since;
    if (queries < buffer) continue;
    const own = tokens[i].score / queries;
    if (own < mean) [at, mean] = [i, own];
  }
  return { at, mean };
}
