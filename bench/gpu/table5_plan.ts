/**
 * Quantization plans for models whose calibration is not at hand.
 *
 * @module
 */
import { type QuantGroup, TYPE_BITS } from "../../src/backend/backend.ts";
import type { Kind } from "../../src/cache/types.ts";
import { GROUP_METADATA_BITS, GROUP_SIZES } from "../../src/profile/types.ts";
import { allocateBits, ratioBudget } from "../../src/stages/quantize/allocate.ts";
import { gaussianTable, scaledVariance } from "./spectrum.ts";

/** Most components of a kind (KVTC, B.17). */
export const MOST_COMPONENTS = 10_000;
/** What the ranges of a type begin at multiples of: a view of a buffer of any backend begins there. */
const ALIGNED = 256;
/** Sizes of groups, large ones first: plans of calibrated models have few of 1024. */
const SIZES = [256, 64, 16, 1];

/** Bits of a token under a plan, as the allocation counts them. */
export function planBits(groups: readonly QuantGroup[]): number {
  return groups.reduce((sum, { size, type }) => sum + size * TYPE_BITS[type] + GROUP_METADATA_BITS, 0);
}

/** Components in groups. */
export function keptComponents(groups: readonly QuantGroup[]): number {
  return groups.reduce((sum, { size }) => sum + size, 0);
}

/**
 * A plan of exactly so many components: fp8, then int4, then int2, as calibrated plans are made. fp8 are an eightieth of the
 * features in whole groups of 256, one at least; int4 goes as far as the ratio's bits do, and where all of the rest is
 * int4, fp8 goes on. Groups have 256 components, the last ones 64, 16 and 1. Where even fp8 for all takes less than the
 * ratio's bits, the ratio is higher.
 */
export function planOf(features: number, components: number, ratio: number = 16): QuantGroup[] {
  const budget = ratioBudget(features, ratio);
  const aligned = (n: number) => Math.max(0, Math.min(Math.floor(n / ALIGNED) * ALIGNED, components));
  let best = laid([aligned(Math.max(ALIGNED, features / 80)), 0, components]);
  // More bits in steps of a group: first int4 for int2, then fp8 for int4.
  for (let step = 1; step <= 2 * components / ALIGNED + 2; step++) {
    const fp8 = best.counts[0];
    const all = fp8 + best.counts[1] === components;
    const int4 = all ? Math.max(0, best.counts[1] - ALIGNED) : best.counts[1] + ALIGNED;
    const next = laid([all ? Math.min(components, fp8 + ALIGNED) : fp8, int4, components]);
    if (planBits(next.groups) > budget) break;
    best = next;
  }
  return best.groups;
}

/** Groups of so many fp8 and int4 components, the rest of all int2. */
function laid([fp8, int4, components]: readonly number[]): { groups: QuantGroup[]; counts: readonly number[] } {
  const middle = Math.min(int4, components - fp8);
  const counts = [fp8, middle, components - fp8 - middle];
  const groups: QuantGroup[] = [];
  let first = 0;
  for (const [i, count] of counts.entries()) {
    const end = first + count;
    while (first < end) {
      const size = SIZES.find((one) => one <= end - first)!;
      groups.push({ first, size, type: 3 - i as 1 | 2 | 3 });
      first += size;
    }
  }
  return { groups, counts };
}

/**
 * What the recipe's dynamic program keeps of a scaled spectrum (spectrum.ts) under KVTC's cap. Takes seconds.
 *
 * @param most the cap, for tests of small models
 */
export async function dpPlan(
  kind: Kind,
  features: number,
  ratio: number,
  most: number = MOST_COMPONENTS,
): Promise<QuantGroup[]> {
  const rank = Math.min(most, features);
  const table = await gaussianTable(scaledVariance(kind, features, rank));
  return allocateBits(table, ratioBudget(features, ratio)).groups;
}

/**
 * The same groups with those of a type side by side, fp8 first, each type from a multiple of `alignment` on: its components
 * lie together on the device. Components between are in no group.
 */
export function byType(groups: readonly QuantGroup[], alignment: number): QuantGroup[] {
  let first = 0;
  return [3, 2, 1].flatMap((type) => {
    first = Math.ceil(first / alignment) * alignment;
    return groups.filter((group) => group.type === type).map((group) => {
      const moved = { ...group, first };
      first += group.size;
      return moved;
    });
  });
}

/** Sizes and types of a plan, for instance "fp8 2×256 1×16, int4 …". */
export function describePlan(groups: readonly QuantGroup[]): string {
  return [3, 2, 1].map((type) => {
    const own = groups.filter((group) => group.type === type);
    const sizes = [...GROUP_SIZES].reverse().map((size) => [own.filter((group) => group.size === size).length, size]);
    const parts = sizes.filter(([count]) => count > 0).map(([count, size]) => `${count}×${size}`);
    return parts.length === 0 ? "" : `${["", "int2", "int4", "fp8"][type]} ${parts.join(" ")}`;
  }).filter((part) => part !== "").join(", ");
}
