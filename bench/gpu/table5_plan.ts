/**
 * A quantization plan for a model whose calibration is not at hand.
 *
 * @module
 */
import type { QuantGroup } from "../../src/backend/backend.ts";

/** Components of a group. */
const SIZE = 256;

/**
 * A plan of `components` components (a multiple of 256) at 16 times: an eightieth of the features in fp8, then int4 as far
 * as the budget of one bit a feature goes, int2 for the rest, as the plans of SmolLM2 are made.
 */
export function planOf(features: number, components: number): QuantGroup[] {
  const groups = Math.floor(components / SIZE);
  const fp8 = Math.max(1, Math.min(groups, Math.round(features / 80 / SIZE)));
  const budget = features - fp8 * SIZE * 8 - groups * 32;
  const int4 = Math.max(0, Math.min(groups - fp8, Math.floor((budget / SIZE - 2 * (groups - fp8)) / 2)));
  return Array.from({ length: groups }, (_, g) => {
    const type = g < fp8 ? 3 : g < fp8 + int4 ? 2 : 1;
    return { first: g * SIZE, size: SIZE, type };
  });
}
