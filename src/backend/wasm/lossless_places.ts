/**
 * Where the arrays of a chunk of the lossless coder lie in its kernels' memory: fixed places, so that what one loop
 * leaves there need not be copied for the next.
 *
 * @module
 */
import { sampledTokens } from "../../stages/lossless/kernels.ts";
import { CLASSES } from "../../stages/lossless/codes.ts";
import { PHASES } from "../../stages/lossless/shape.ts";

/** Counts of 64 classes. */
export const COUNTS = 64 * 256;
/** From these to the other counts that `normalize` adds to. */
export const OTHER_BYTES = 4 * COUNTS + 1088;

/** Where the arrays of a chunk lie. */
export interface Places {
  readonly symbols: number;
  readonly classes: number;
  readonly flips: number;
  readonly octaves: number;
  readonly scales: number;
  readonly means: number;
  readonly sums: number;
  readonly phases: number;
  readonly cosines: number;
  readonly sines: number;
  readonly counts: number;
  readonly seen: number;
  readonly ranges: number;
  /** First byte behind. */
  readonly end: number;
}

/** Places from `heapBase` on for so many rows and tokens. */
export function placesOf(heapBase: number, rows: number, tokens: number): Places {
  const sampled = 4 * sampledTokens(tokens).length;
  const symbols = align(heapBase);
  const classes = align(symbols + rows * tokens);
  const flips = align(classes + PHASES * rows);
  const octaves = align(flips + PHASES * rows);
  const scales = align(octaves + rows);
  const means = align(scales + rows);
  const sums = align(means + rows);
  const phases = align(sums + 12 * rows);
  const cosines = align(phases + Math.max(tokens, PHASES));
  const sines = align(cosines + sampled);
  const counts = align(sines + sampled);
  const seen = align(counts + OTHER_BYTES + 4 * COUNTS);
  const ranges = seen + COUNTS;
  const end = align(ranges + 4 * CLASSES);
  return { symbols, classes, flips, octaves, scales, means, sums, phases, cosines, sines, counts, seen, ranges, end };
}

/** The next start of a cache line. */
export function align(address: number): number {
  return Math.ceil(address / 64) * 64;
}
