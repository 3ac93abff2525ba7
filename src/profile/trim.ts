/**
 * Trimming a profile to the components that given ratios use.
 *
 * @module
 */
import type { Kind } from "../cache/types.ts";
import { planComponents } from "../stages/quantize/plan_format.ts";
import { allocationFor } from "./plan.ts";
import type { KindProfile, KvtcProfile } from "./types.ts";

/**
 * A profile that keeps only the components which a plan at one of these ratios uses, for keys and for values. The error
 * tables stay whole (60 bytes a component of the fit), so that plans stay the optima of the whole fit, and a ratio that
 * needs more components than are kept is refused rather than served badly. The fingerprint stays that of the fit.
 *
 * @throws {RangeError} when there is no ratio, or one is not a positive number.
 * @throws {KvzMismatchError} when the profile has been trimmed before and lacks components for a ratio.
 */
export function trimProfile(profile: KvtcProfile, ratios: readonly number[]): KvtcProfile {
  if (ratios.length === 0) throw new RangeError("Cannot trim profile: there are no ratios");
  const sorted = [...new Set(ratios)].sort((a, b) => a - b);
  return {
    ...profile,
    calibration: { ...profile.calibration, ratios: sorted },
    kinds: { key: trimKind(profile, "key", sorted), value: trimKind(profile, "value", sorted) },
  };
}

function trimKind(profile: KvtcProfile, kind: Kind, ratios: readonly number[]): KindProfile {
  const whole = profile.kinds[kind];
  const components = Math.max(...ratios.map((ratio) => planComponents(allocationFor(profile, kind, ratio).groups)));
  return { ...whole, components, basis: whole.basis.slice(0, components * whole.features) };
}
