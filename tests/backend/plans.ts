/**
 * Plans for properties of the quantizer's kernels.
 *
 * @module
 */
import fc from "fast-check";
import type { QuantGroup } from "../../src/backend/backend.ts";

/** Up to `most` groups of these sizes or of others, with gaps of up to `gap` components between some. */
export function plansOf(sizes: readonly number[], most: number, gap: number): fc.Arbitrary<QuantGroup[]> {
  const group = fc.record({
    gap: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(gap)),
    size: fc.oneof(fc.constantFrom(...sizes), fc.integer({ min: 1, max: 40 })),
    type: fc.constantFrom<1 | 2 | 3>(1, 2, 3),
  });
  return fc.array(group, { maxLength: most }).map((items) => {
    let end = 0;
    return items.map(({ gap, size, type }): QuantGroup => {
      const first = end + gap;
      end = first + size;
      return { first, size, type };
    });
  });
}
