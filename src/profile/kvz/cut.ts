/**
 * Components that a step leaves.
 *
 * @module
 */
import { stepOf } from "../../stages/quantize/trellis/step.ts";
import { KEEP_SHARE } from "./limits.ts";

/** How many components have a standard deviation that is not far below a step; at least one. */
export function keptComponents(variance: ArrayLike<number>, s: number): number {
  const least = KEEP_SHARE * stepOf(s) * (KEEP_SHARE * stepOf(s));
  let kept = 0;
  while (kept < variance.length && variance[kept] >= least) kept++;
  return Math.max(1, kept);
}
