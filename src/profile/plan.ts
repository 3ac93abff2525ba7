/**
 * Bit plans from a profile, for any ratio.
 *
 * @module
 */
import type { QuantGroup } from "../backend/backend.ts";
import type { Kind } from "../cache/types.ts";
import { KvzMismatchError } from "../errors.ts";
import { allocateBits, type BitAllocation, ratioBudget } from "../stages/quantize/allocate.ts";
import { planComponents } from "../stages/quantize/plan_format.ts";
import type { KvtcProfile } from "./types.ts";

/**
 * The optimal allocation of one kind at a ratio, with its bits and its error on the calibration sample. Takes about
 * 0.6 s at rank 2048 and ratio 8, less at higher ratios.
 *
 * @throws {RangeError} when the ratio is not a positive number.
 * @throws {KvzMismatchError} when the profile was trimmed and lacks components that the plan needs.
 */
export function allocationFor(profile: KvtcProfile, kind: Kind, ratio: number): BitAllocation {
  const { features, components, table } = profile.kinds[kind];
  const allocation = allocateBits(table, ratioBudget(features, ratio));
  const needed = planComponents(allocation.groups);
  if (needed > components) {
    throw new KvzMismatchError(
      `Cannot use ratio ${ratio}: it needs ${needed} ${kind} components, the profile was trimmed to ${components} for ` +
        `ratios ${profile.calibration.ratios.join(", ")}`,
    );
  }
  return allocation;
}

/**
 * The optimal plan of one kind at a ratio.
 *
 * @throws what {@linkcode allocationFor} throws
 */
export function planFor(profile: KvtcProfile, kind: Kind, ratio: number): QuantGroup[] {
  return allocationFor(profile, kind, ratio).groups;
}
