/**
 * Hitting a ratio of the whole file: the recipe's knob is turned until the file has the size wanted.
 *
 * @module
 */

import { naturalLog, power } from "../cache/power.ts";
import type { Profile } from "../profile/types.ts";
import type { Knob } from "../recipes/recipe.ts";

/** Relative distance from the wanted file ratio that is good enough. */
const TOLERANCE = 0.01;
const MAX_TRIES = 12;

/** One try: a value of the knob and the file ratio it gave. */
interface Try {
  readonly value: number;
  readonly fileRatio: number;
}

/**
 * Finds the knob's value whose file ratio is within 1 % of `wanted`, by secants on logarithms kept inside a bracket.
 *
 * @param measure compresses at a value of the knob and returns the file ratio
 * @throws {RangeError} when no value in the knob's range gives it, saying what can be had.
 */
export async function findRatio(
  wanted: number,
  knob: Knob,
  profile: Profile | null,
  measure: (value: number) => Promise<number>,
): Promise<number> {
  if (!(Number.isFinite(wanted) && wanted > 0)) {
    throw new RangeError(`Cannot use option "fileRatio": it is ${wanted}, expected a finite number above 0`);
  }
  let low: Try | null = null;
  let high: Try | null = null;
  const { name, min, max } = knob;
  let value = Math.min(Math.max(await knob.start(wanted, profile), min), max);
  let best: Try | null = null;
  for (let i = 0; i < MAX_TRIES; i++) {
    const now = { value, fileRatio: await measure(value) };
    if (best === null || distance(now, wanted) < distance(best, wanted)) best = now;
    if (distance(now, wanted) <= TOLERANCE) return now.value;
    if (now.fileRatio < wanted) low = now;
    else high = now;
    if (low !== null && high !== null) value = between(low, high, wanted);
    else if (high === null) value = value >= max ? NaN : Math.min(max, value * 2);
    else value = value <= min ? NaN : Math.max(min, value / 2);
    if (Number.isNaN(value)) break;
  }
  throw new RangeError(
    `Cannot reach file ratio ${wanted}: the nearest is ${best!.fileRatio.toFixed(3)} at option ${name} ` +
      `${Number(best!.value.toPrecision(4))} (window, sinks and headers do not shrink with it)`,
  );
}

function distance(t: Try, wanted: number): number {
  return Math.abs(naturalLog(t.fileRatio / wanted));
}

/** Log-linear interpolation, kept off the ends so that the bracket always shrinks. */
function between(low: Try, high: Try, wanted: number): number {
  const share = naturalLog(wanted / low.fileRatio) / naturalLog(high.fileRatio / low.fileRatio);
  const parts = 1 << 20;
  return low.value * power(high.value / low.value, Math.round(parts * Math.min(Math.max(share, 0.1), 0.9)), parts);
}
