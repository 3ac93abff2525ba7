/**
 * Orders of the tokens of a block in which neighbours resemble each other, so that packs of them need fewer bits (PackKV,
 * utils/compute.py of its authors: `greedy_repacking`, `median_repacking`). Rows are tokens, [tokens][channels], the keys'
 * channels of all heads and then the values'.
 *
 * @module
 */
import { bitLength } from "./bits.ts";

/** How a block's tokens are ordered. */
export type Repacking = "greedy" | "median" | "none";

/** Index of the token at each place of the new order. */
export function repackOrder(
  rows: Uint8Array,
  tokens: number,
  channels: number,
  firstValue: number,
  packTokens: number,
  how: Repacking,
): Uint8Array {
  if (how === "median") return medianOrder(rows, tokens, channels, firstValue);
  if (how === "greedy") return greedyOrder(rows, tokens, channels, packTokens);
  return Uint8Array.from({ length: tokens }, (_, t) => t);
}

/** Falling by the (lower) median of a token's values. */
function medianOrder(rows: Uint8Array, tokens: number, channels: number, firstValue: number): Uint8Array {
  const medians = Array.from({ length: tokens }, (_, t) => {
    const values = rows.slice(t * channels + firstValue, (t + 1) * channels).sort();
    return values[values.length - 1 >> 1];
  });
  return Uint8Array.from([...medians.keys()].sort((a, b) => medians[b] - medians[a] || a - b));
}

/**
 * Pack after pack: its first token is the one whose cosine with the mean of those left (rounded) is largest, each further
 * one that which lengthens the bits of the pack's channels least.
 */
function greedyOrder(rows: Uint8Array, tokens: number, channels: number, packTokens: number): Uint8Array {
  const left = Array.from({ length: tokens }, (_, t) => t);
  const order: number[] = [];
  const low = new Uint8Array(channels);
  const high = new Uint8Array(channels);
  while (left.length > 0) {
    const seed = take(left, mostLikeMean(rows, left, channels));
    order.push(seed);
    low.set(rows.subarray(seed * channels, (seed + 1) * channels));
    high.set(low);
    for (let n = 1; n < packTokens && left.length > 0; n++) {
      const next = take(left, leastIncrease(rows, left, channels, low, high));
      order.push(next);
      for (let c = 0, at = next * channels; c < channels; c++, at++) {
        if (rows[at] < low[c]) low[c] = rows[at];
        if (rows[at] > high[c]) high[c] = rows[at];
      }
    }
  }
  return Uint8Array.from(order);
}

function take(left: number[], index: number): number {
  return left.splice(index, 1)[0];
}

/** Index in `left`; of equals the first. */
function mostLikeMean(rows: Uint8Array, left: readonly number[], channels: number): number {
  const mean = new Float64Array(channels);
  for (const t of left) for (let c = 0; c < channels; c++) mean[c] += rows[t * channels + c];
  let norm = 0;
  for (let c = 0; c < channels; c++) {
    mean[c] = Math.round(mean[c] / left.length);
    norm += mean[c] * mean[c];
  }
  let [best, bestCosine] = [0, -Infinity];
  left.forEach((t, index) => {
    let [dot, squares] = [0, 0];
    for (let c = 0; c < channels; c++) {
      const value = rows[t * channels + c];
      dot += value * mean[c];
      squares += value * value;
    }
    const cosine = dot / Math.max(1e-8, Math.sqrt(squares * norm));
    if (cosine > bestCosine) [best, bestCosine] = [index, cosine];
  });
  return best;
}

/** Index in `left`; of equals the first. */
function leastIncrease(
  rows: Uint8Array,
  left: readonly number[],
  channels: number,
  low: Uint8Array,
  high: Uint8Array,
): number {
  // What the pack's channels need already is the same for all.
  let [best, least] = [0, Infinity];
  for (let index = 0; index < left.length; index++) {
    let sum = 0;
    for (let c = 0, at = left[index] * channels; c < channels && sum < least; c++, at++) {
      const value = rows[at];
      sum += bitLength((value > high[c] ? value : high[c]) - (value < low[c] ? value : low[c]));
    }
    if (sum < least) [best, least] = [index, sum];
  }
  return best;
}
