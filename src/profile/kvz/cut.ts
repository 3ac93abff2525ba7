/**
 * Components that a step leaves, and step sets for them.
 *
 * @module
 */
import { MODES, type StepSet } from "../../stages/quantize/trellis/model.ts";
import { stepOf } from "../../stages/quantize/trellis/step.ts";
import { KEEP_SHARE } from "./limits.ts";

/** How many components have a standard deviation that is not far below a step; at least one. */
export function keptComponents(variance: ArrayLike<number>, s: number): number {
  const least = KEEP_SHARE * stepOf(s) * (KEEP_SHARE * stepOf(s));
  let kept = 0;
  while (kept < variance.length && variance[kept] >= least) kept++;
  return Math.max(1, kept);
}

/** The leading components of a step set. */
export function cutStepSet({ s, rho32, logSigma }: StepSet, all: number, components: number): StepSet {
  const cut = <T extends Int8Array | Int16Array>(from: T, to: T): T => {
    for (let mode = 0; mode < MODES; mode++) {
      to.set(from.subarray(mode * all, mode * all + components), mode * components);
    }
    return to;
  };
  return {
    s,
    rho32: cut(rho32, new Int8Array(MODES * components)),
    logSigma: cut(logSigma, new Int16Array(MODES * components)),
  };
}
