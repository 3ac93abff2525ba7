/** A small profile for recipe kvz, calibrated on synthetic caches without a sensitivity file. */
import { calibrateKvz } from "../../src/profile/kvz/calibrate.ts";
import type { KvzProfile } from "../../src/profile/kvz/types.ts";
import { syntheticCache } from "../synthetic.ts";

/**
 * Calibrates it.
 *
 * @param ratio what it is made for: a low one leaves more components
 */
export async function smallKvzProfile(ratio?: number): Promise<KvzProfile> {
  const caches = [1, 2, 3].map((seed) => syntheticCache(700, { seed }));
  return await calibrateKvz(caches, { rank: 64, svd: "exact", ratio });
}
