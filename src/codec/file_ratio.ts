/**
 * Hitting a ratio of the whole file: the recipe's own ratio is varied until the file has the size wanted.
 *
 * @module
 */

/** Relative distance from the wanted file ratio that is good enough. */
const TOLERANCE = 0.01;
const MAX_TRIES = 12;

/** One try: a recipe ratio and the file ratio it gave. */
interface Try {
  readonly ratio: number;
  readonly fileRatio: number;
}

/**
 * Finds the recipe ratio whose file ratio is within 1 % of `wanted`, by secants on logarithms kept inside a bracket.
 *
 * @param measure compresses at a recipe ratio and returns the file ratio
 * @throws {RangeError} when no recipe ratio from 1 to 10000 gives it, saying what can be had.
 */
export async function findRatio(wanted: number, measure: (ratio: number) => Promise<number>): Promise<number> {
  if (!(Number.isFinite(wanted) && wanted > 0)) {
    throw new RangeError(`Cannot use option "fileRatio": it is ${wanted}, expected a finite number above 0`);
  }
  let low: Try | null = null;
  let high: Try | null = null;
  let ratio = Math.min(Math.max(wanted, 1), 10000);
  let best: Try | null = null;
  for (let i = 0; i < MAX_TRIES; i++) {
    const now = { ratio, fileRatio: await measure(ratio) };
    if (best === null || distance(now, wanted) < distance(best, wanted)) best = now;
    if (distance(now, wanted) <= TOLERANCE) return now.ratio;
    if (now.fileRatio < wanted) low = now;
    else high = now;
    if (low !== null && high !== null) ratio = between(low, high, wanted);
    else if (high === null) ratio = ratio >= 10000 ? NaN : Math.min(10000, ratio * 2);
    else ratio = ratio <= 1 ? NaN : Math.max(1, ratio / 2);
    if (Number.isNaN(ratio)) break;
  }
  throw new RangeError(
    `Cannot reach file ratio ${wanted}: the nearest is ${best!.fileRatio.toFixed(3)} at recipe ratio ` +
      `${best!.ratio.toFixed(3)} (window, sinks and headers do not shrink with it)`,
  );
}

function distance(t: Try, wanted: number): number {
  return Math.abs(Math.log(t.fileRatio / wanted));
}

/** Log-linear interpolation, kept off the ends so that the bracket always shrinks. */
function between(low: Try, high: Try, wanted: number): number {
  const a = Math.log(low.ratio);
  const b = Math.log(high.ratio);
  const share = Math.log(wanted / low.fileRatio) / Math.log(high.fileRatio / low.fileRatio);
  return Math.exp(a + (b - a) * Math.min(Math.max(share, 0.1), 0.9));
}
