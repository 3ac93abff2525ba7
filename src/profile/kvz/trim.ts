/**
 * Trimming a profile to the components that a ratio needs.
 *
 * @module
 */
import { cutStepSet } from "../../stages/quantize/trellis/model.ts";
import { keptComponents } from "./cut.ts";
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
    stepSets: stepSets.map((set) => cutStepSet(set, components)),
  };
}
