/**
 * Trimming a profile to the components that a ratio needs.
 *
 * @module
 */
import { MODES, type StepSet } from "../../stages/quantize/trellis/model.ts";
import { stepOf } from "../../stages/quantize/trellis/step.ts";
import { KEEP_SHARE } from "./limits.ts";
import { stepFor } from "./rate.ts";
import type { KvzProfile } from "./types.ts";

/**
 * A profile that keeps only the components which files of a ratio, and higher ones, are made of. The fingerprint stays that of
 * the fit, so that either form opens what the other has made, as far as it has the components.
 *
 * @throws {RangeError} when the ratio is not at least 1.
 */
export function trimKvzProfile(profile: KvzProfile, ratio: number): KvzProfile {
  if (!(ratio >= 1 && ratio < Infinity)) {
    throw new RangeError(`Cannot trim profile: ratio is ${ratio}, expected 1 or more`);
  }
  const { features, variance, basis, stepSets } = profile;
  const finestS = Math.min(profile.finestS, stepFor(variance, features * 16 / ratio));
  const components = keptComponents(variance, finestS);
  return {
    ...profile,
    finestS,
    components,
    variance: variance.slice(0, components),
    basis: basis.slice(0, components * features),
    stepSets: stepSets.map((set) => cutStepSet(set, profile.components, components)),
  };
}

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
