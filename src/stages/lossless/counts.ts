/**
 * Which symbols of a chunk are counted for its tables. Counting costs more than any other step before symbols are
 * coded, and a few hundred thousand symbols tell the tables of 64 classes as well as millions do.
 *
 * @module
 */
import { CLASSES } from "./codes.ts";

/** Symbols of one sign. */
const MAGNITUDES = 128;
/** Tokens that are counted together. */
export const COUNT_GROUP = 64;
/** Symbols from which on not all are counted, but no fewer. */
const ENOUGH = 2 ** 18;
/** Least share of the groups that is counted, as a divisor. */
const MAX_STEP = 16;

/** Of how many groups of tokens one is counted in a chunk of so many symbols, a power of two: 1 where all are. */
export function countStep(symbols: number): number {
  let step = 1;
  while (step < MAX_STEP && symbols >= 2 * step * ENOUGH) step *= 2;
  return step;
}

/** Whether a token of a row is counted. Tokens that fill no group are, in each row. */
export function isCounted(row: number, t: number, tokens: number, step: number): boolean {
  const group = Math.floor(t / COUNT_GROUP);
  return (group + 1) * COUNT_GROUP > tokens || (group + row) % step === 0;
}

/**
 * Two ranges of each class in which every symbol was counted, u8 [64][4]: the first symbol and how many there are, of those
 * without and of those with a sign. Magnitudes go on from 127 to 0. Nearly all that was not counted lies in these ranges:
 * the rest is looked for where a row leaves them.
 */
export function countedRanges(counts: Uint32Array): Uint8Array {
  const ranges = new Uint8Array(4 * CLASSES);
  for (let at = 0; at < 2 * CLASSES; at++) {
    const half = counts.subarray(at * MAGNITUDES, (at + 1) * MAGNITUDES);
    let top = 0;
    for (let m = 1; m < MAGNITUDES; m++) if (half[m] > half[top]) top = m;
    if (half[top] === 0) continue;
    let [first, size] = [top, 1];
    while (size < MAGNITUDES && half[(first + size) % MAGNITUDES] > 0) size++;
    while (size < MAGNITUDES && half[(first + MAGNITUDES - 1) % MAGNITUDES] > 0) {
      first = (first + MAGNITUDES - 1) % MAGNITUDES;
      size++;
    }
    ranges[2 * at] = first;
    ranges[2 * at + 1] = size;
  }
  return ranges;
}
