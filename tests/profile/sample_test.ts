import { assert, assertEquals } from "deno-std/assert";
import fc from "fast-check";
import { rowPriority, SampleSlots } from "../../src/profile/sample.ts";

Deno.test("SampleSlots keeps the smallest priorities whatever their order", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(1000), { maxLength: 60 }),
      fc.integer({ min: 1, max: 20 }),
      (priorities, capacity) => {
        const slots = new SampleSlots(capacity);
        const content: number[] = [];
        for (const priority of priorities) {
          const slot = slots.offer(priority);
          if (slot >= 0) content[slot] = priority;
        }
        const expected = priorities.toSorted((a, b) => a - b).slice(0, capacity);
        assertEquals([...slots.priorities()], expected);
        assertEquals([...slots.order()].map((slot) => content[slot]), expected);
        assertEquals(slots.size, expected.length);
      },
    ),
  );
});

Deno.test("samples of parts merge into the sample of the whole", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat(1e6), { maxLength: 80 }),
      fc.nat(80),
      fc.integer({ min: 1, max: 12 }),
      (all, cut, n) => {
        const sampleOf = (priorities: Iterable<number>) => {
          const slots = new SampleSlots(n);
          for (const priority of priorities) slots.offer(priority);
          return slots.priorities();
        };
        const merged = sampleOf([...sampleOf(all.slice(cut)), ...sampleOf(all.slice(0, cut))]);
        assertEquals(merged, sampleOf(all));
      },
    ),
  );
});

Deno.test("rowPriority is an integer below 2^53, uniform, and depends on seed, sequence and token", () => {
  const priorities = Array.from({ length: 4000 }, (_, token) => rowPriority(1, 0x123456789abcdef0n, token));
  assert(priorities.every((priority) => Number.isSafeInteger(priority) && priority >= 0));
  assertEquals(new Set(priorities).size, priorities.length);
  for (let tenth = 0; tenth < 10; tenth++) {
    const inside = priorities.filter((priority) => Math.floor(priority / 2 ** 53 * 10) === tenth).length;
    assert(inside > 320 && inside < 480, `${inside} of 4000 in tenth ${tenth}`);
  }
  const variants = [rowPriority(1, 5n, 9), rowPriority(2, 5n, 9), rowPriority(1, 6n, 9), rowPriority(1, 5n << 32n, 9)];
  assertEquals(new Set(variants).size, variants.length);
  assertEquals(rowPriority(1, 5n, 9), variants[0]);
});
