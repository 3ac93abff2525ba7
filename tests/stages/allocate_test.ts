import { assert, assertAlmostEquals, assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { TYPE_BITS } from "../../src/backend/backend.ts";
import { type ErrorTable, GROUP_METADATA_BITS, GROUP_SIZES, GROUP_TYPES } from "../../src/profile/types.ts";
import { allocateBits, ratioBudget } from "../../src/stages/quantize/allocate.ts";
import { type AllocationProblem, solveAllocation } from "../../src/stages/quantize/allocate_dp.ts";

/** The least error within a budget by trying every segmentation, None groups of every size included. */
function bruteForce(problem: AllocationProblem, budget: number): number {
  const { rank, sizes, typeBits, metadataBits, energy, errors } = problem;
  let best = Infinity;
  function extend(i: number, bits: number, error: number): void {
    if (bits > budget) return;
    if (i === rank) {
      best = Math.min(best, error);
      return;
    }
    for (let s = 0; s < sizes.length && i + sizes[s] <= rank; s++) {
      const last = i + sizes[s] - 1;
      let none = 0;
      for (let k = i; k <= last; k++) none += energy[k];
      extend(last + 1, bits, error + none);
      for (let t = 0; t < typeBits.length; t++) {
        extend(
          last + 1,
          bits + metadataBits + sizes[s] * typeBits[t],
          error + errors[(last * sizes.length + s) * typeBits.length + t],
        );
      }
    }
  }
  extend(0, 0, 0);
  return best;
}

/** The least error by frontiers: every undominated (bits, error) of every prefix. Another algorithm than the DP. */
function frontier(problem: AllocationProblem, budget: number): number {
  const { rank, sizes, typeBits, metadataBits, energy, errors } = problem;
  const prefixes: [number, number][][] = [[[0, 0]]];
  for (let i = 0; i < rank; i++) {
    const points = prefixes[i].map(([bits, error]): [number, number] => [bits, error + energy[i]]);
    for (let s = 0; s < sizes.length && sizes[s] <= i + 1; s++) {
      for (let t = 0; t < typeBits.length; t++) {
        const cost = metadataBits + sizes[s] * typeBits[t];
        const group = errors[(i * sizes.length + s) * typeBits.length + t];
        for (const [bits, error] of prefixes[i + 1 - sizes[s]]) {
          if (bits + cost <= budget) points.push([bits + cost, error + group]);
        }
      }
    }
    points.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let least = Infinity;
    prefixes.push(points.filter(([, error]) => error < least && (least = error, true)));
  }
  return prefixes[rank].at(-1)![1];
}

/** A problem with errors drawn from `unit` (numbers in [0, 1)). */
function problemOf(
  rank: number,
  sizes: readonly number[],
  typeBits: readonly number[],
  metadataBits: number,
  unit: () => number,
): AllocationProblem {
  const energy = Float64Array.from({ length: rank }, () => unit() * 10);
  const errors = new Float64Array(rank * sizes.length * typeBits.length);
  for (let i = 0; i < rank; i++) {
    for (let s = 0; s < sizes.length; s++) {
      let block = 0;
      for (let k = i; k > i - sizes[s]; k--) block += energy[k] ?? 0;
      for (let t = 0; t < typeBits.length; t++) {
        // Sometimes worse than leaving out, sometimes worse than fewer bits.
        errors[(i * sizes.length + s) * typeBits.length + t] = sizes[s] > i + 1 ? Infinity : block * unit() * 1.2;
      }
    }
  }
  return { rank, sizes, typeBits, metadataBits, energy, errors };
}

/** Mulberry32. */
function generator(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
}

/** A table as calibration yields it, in shape: falling energies, errors falling with bits and rising with size. */
function tableOf(rank: number, seed: number): ErrorTable {
  const unit = generator(seed);
  const energy = Float64Array.from({ length: rank }, (_, i) => 1e5 * Math.pow(i + 1, -1.1) * (0.8 + 0.4 * unit()));
  const errors = new Float32Array(rank * GROUP_SIZES.length * GROUP_TYPES.length).fill(Infinity);
  for (let i = 0; i < rank; i++) {
    GROUP_SIZES.forEach((size, s) => {
      if (size > i + 1) return;
      let block = 0;
      let peak = 0;
      for (let k = i; k > i - size; k--) {
        block += energy[k];
        peak = Math.max(peak, energy[k]);
      }
      const at = (i * GROUP_SIZES.length + s) * GROUP_TYPES.length;
      const spread = 8 * peak * size;
      errors[at] = Math.min(0.9 * block, size === 1 ? 1e-6 * block : spread / 12 / 9);
      errors[at + 1] = size === 1 ? 1e-6 * block : spread / 12 / 225;
      errors[at + 2] = 4e-4 * block;
    });
  }
  return { rank, rows: 1000, energy, errors };
}

/** Bits and error of a plan, from the plan alone. */
function account(table: ErrorTable, groups: ReturnType<typeof allocateBits>["groups"]): [number, number] {
  let bits = 0;
  let error = 0;
  let next = 0;
  for (const { first, size, type } of groups) {
    assert(first >= next, "groups overlap or are out of order");
    while (next < first) error += table.energy[next++];
    bits += GROUP_METADATA_BITS + size * TYPE_BITS[type];
    next = first + size;
    const at = (next - 1) * GROUP_SIZES.length + GROUP_SIZES.indexOf(size);
    error += table.errors[at * GROUP_TYPES.length + GROUP_TYPES.indexOf(type)];
  }
  assert(next <= table.rank);
  while (next < table.rank) error += table.energy[next++];
  return [bits, error];
}

Deno.test("solveAllocation finds what trying every segmentation finds", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 6 }),
      fc.constantFrom([1, 2, 4], [1, 3], [1, 2, 3], [1, 2, 5, 6], [1]),
      fc.constantFrom([2, 4, 8], [1, 3], [5]),
      fc.integer({ min: 0, max: 9 }),
      fc.integer({ min: 0, max: 80 }),
      fc.integer(),
      (rank, sizes, typeBits, metadataBits, budget, seed) => {
        const problem = problemOf(rank, sizes, typeBits, metadataBits, generator(seed));
        const { bits, error } = solveAllocation(problem, budget);
        assert(bits <= budget);
        assertAlmostEquals(error, bruteForce(problem, budget), 1e-9);
      },
    ),
    { numRuns: 400 },
  );
});

Deno.test("solveAllocation with KVTC's sizes and types finds what trying every segmentation finds", () => {
  const bits = GROUP_TYPES.map((type) => TYPE_BITS[type]);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 5 }),
      fc.integer({ min: 0, max: 250 }),
      fc.integer(),
      (rank, budget, seed) => {
        const problem = problemOf(rank, GROUP_SIZES, bits, GROUP_METADATA_BITS, generator(seed));
        assertAlmostEquals(solveAllocation(problem, budget).error, bruteForce(problem, budget), 1e-9);
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("allocateBits finds the optimum of frontiers where groups of 16 and 64 fit", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 15, max: 80 }),
      fc.integer({ min: 0, max: 1500 }),
      fc.integer(),
      (rank, budget, seed) => {
        const unit = generator(seed);
        const bits = GROUP_TYPES.map((type) => TYPE_BITS[type]);
        const problem = problemOf(rank, GROUP_SIZES, bits, GROUP_METADATA_BITS, unit);
        const table: ErrorTable = {
          rank,
          rows: 1,
          energy: problem.energy as Float64Array,
          errors: Float32Array.from(problem.errors),
        };
        const plan = allocateBits(table, budget);
        const [cost, error] = account(table, plan.groups);
        assertEquals(cost, plan.bits);
        assertAlmostEquals(error, plan.error, 1e-6);
        assertAlmostEquals(error, frontier({ ...problem, errors: table.errors }, budget), 1e-6);
      },
    ),
    { numRuns: 30 },
  );
});

Deno.test("allocateBits never costs more than its budget and never gets worse with more of it", () => {
  const table = tableOf(300, 7);
  let before = Infinity;
  for (let budget = 0; budget <= 4000; budget += 37) {
    const { groups, bits, error } = allocateBits(table, budget);
    assert(bits <= budget);
    assert(error <= before);
    assertEquals(account(table, groups)[0], bits);
    before = error;
  }
});

Deno.test("allocateBits drops everything without a budget, and keeps nothing of no use", () => {
  const table = tableOf(20, 1);
  const energy = table.energy.reduce((a, b) => a + b);
  for (const budget of [0, 33]) {
    const plan = allocateBits(table, budget);
    assertEquals(plan.groups, []);
    assertEquals(plan.bits, 0);
    assertAlmostEquals(plan.error, energy, 1e-6 * energy);
  }
  const useless: ErrorTable = { ...table, errors: new Float32Array(table.errors.length).fill(1e9) };
  assertEquals(allocateBits(useless, 1e6).groups, []);
  assertEquals(allocateBits({ rank: 0, rows: 1, energy: new Float64Array(), errors: new Float32Array() }, 100), {
    groups: [],
    bits: 0,
    error: 0,
  });
});

Deno.test("allocateBits uses single components only where the rank is below every other size", () => {
  const { groups } = allocateBits(tableOf(10, 3), 200);
  assert(groups.length > 0);
  assert(groups.every(({ size }) => size === 1));
});

Deno.test("allocateBits leaves components beyond the limit alone, and a shorter table gives the same plan", () => {
  const table = tableOf(400, 5);
  const full = allocateBits(table, 900);
  const last = full.groups.at(-1)!;
  const used = last.first + last.size;
  assert(used < 400);
  assertEquals(allocateBits(table, 900, { components: used }).groups, full.groups);
  assertAlmostEquals(allocateBits(table, 900, { components: used }).error, full.error, 1e-6 * full.error);
  const cut = allocateBits(table, 900, { components: 16 });
  assert(cut.groups.every(({ first, size }) => first + size <= 16));
  assert(cut.error >= full.error);
});

Deno.test("allocateBits solves rank 2048 at ratio 8 within 2 seconds", () => {
  const table = tableOf(2048, 11);
  const start = performance.now();
  const plan = allocateBits(table, ratioBudget(5760, 8));
  const seconds = (performance.now() - start) / 1000;
  assert(plan.bits > 11500 && plan.bits <= 11520);
  assert(seconds < 2, `took ${seconds.toFixed(2)} s`);
});

Deno.test("ratioBudget counts fp16 bits", () => {
  assertEquals(ratioBudget(5760, 8), 11520);
  assertEquals(ratioBudget(5760, 7), 13165);
  assertThrows(() => ratioBudget(5760, 0), RangeError, "ratio is 0");
  assertThrows(() => ratioBudget(5760, NaN), RangeError);
});

Deno.test("allocateBits refuses tables and arguments that do not fit", () => {
  const table = tableOf(20, 1);
  assertThrows(() => allocateBits({ ...table, rank: 21 }, 100), RangeError, "20 energies");
  assertThrows(() => allocateBits(table, -1), RangeError, "budget is -1");
  assertThrows(() => allocateBits(table, NaN), RangeError);
  assertThrows(() => allocateBits(table, 100, { components: 21 }), RangeError, "expected 0 to 20");
  const broken = { ...table, errors: table.errors.with(0, NaN) };
  assertThrows(() => allocateBits(broken, 100), RangeError, "NaN");
});
