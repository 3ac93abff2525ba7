/**
 * Where the arrays of a chunk of the lossless coder lie in its kernels' memory: fixed places behind `base`, symbols first,
 * so that what one loop leaves there need not be copied for the next.
 *
 * @module
 */
import { BYTES_PER_ELEMENT } from "../../cache/types.ts";
import { planeLengths, sampledTokens } from "../../stages/lossless/kernels.ts";
import { CLASSES } from "../../stages/lossless/codes.ts";
import { type LosslessShape, PHASES, rowCount } from "../../stages/lossless/shape.ts";

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

/** Places for so many rows and tokens. */
export function placesOf(base: number, rows: number, tokens: number): Places {
  const sampled = 4 * sampledTokens(tokens).length;
  const symbols = align(base);
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

/** Places of what `split` reads and writes beside the symbols. One block at a time is there, with its planes. */
export function splitPlaces(base: number, shape: LosslessShape, tokens: number) {
  const { dim, dtype } = shape;
  const n = tokens * dim;
  const { symbols, end: elements } = placesOf(base, rowCount(shape), tokens);
  const planes = align(elements + n * BYTES_PER_ELEMENT[dtype]);
  const work = align(planeLengths({ ...shape, blocks: 1 }, tokens).reduce((at, length) => at + length, planes));
  const rows = align(work + n);
  const escapes = align(rows + 4 * rowCount(shape));
  const end = align(escapes + (dtype === "f16" ? 0 : rowCount(shape) * tokens));
  return { symbols, elements, planes, work, rows, escapes, end };
}

/** Places of what `join` reads and writes, `shape` with the blocks that are wanted: one at a time, but for the symbols. */
export function joinPlaces(base: number, shape: LosslessShape, tokens: number, escapeCount: number) {
  const { dim, dtype } = shape;
  const symbols = align(base);
  const planes = align(symbols + rowCount(shape) * tokens);
  const escapes = align(planeLengths({ ...shape, blocks: 1 }, tokens).reduce((at, length) => at + length, planes));
  const rows = align(escapes + escapeCount);
  const work = align(rows + 4 * rowCount(shape));
  const out = align(work + tokens * dim);
  const end = align(out + tokens * dim * BYTES_PER_ELEMENT[dtype]);
  return { symbols, planes, escapes, rows, work, out, end };
}

/** The next start of a cache line. */
function align(address: number): number {
  return Math.ceil(address / 64) * 64;
}
