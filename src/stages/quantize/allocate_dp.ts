/**
 * The dynamic program behind KVTC's bit allocation (arXiv 2511.01815v2, B.17), for any group sizes, types and costs.
 *
 * @module
 */

/** A segmentation problem: cover a prefix of components by groups, or leave components out. */
export interface AllocationProblem {
  /** Components, the first the most important. */
  readonly rank: number;
  /** Group sizes, ascending. */
  readonly sizes: readonly number[];
  /** Code bits a component of each type with payload. */
  readonly typeBits: readonly number[];
  /** Bits charged for each group besides its codes. */
  readonly metadataBits: number;
  /** Squared error of leaving a component out: [rank]. */
  readonly energy: ArrayLike<number>;
  /** Squared error of a group by its last component: [rank][sizes][types]; Infinity where it is impossible. */
  readonly errors: ArrayLike<number>;
}

/** A chosen group, by indices into the problem's sizes and types. */
export interface AllocatedGroup {
  readonly first: number;
  readonly size: number;
  readonly type: number;
}

/** The optimum of a problem under a budget. */
export interface Allocation {
  /** Ascending, without overlap. Components in no group are left out. */
  readonly groups: readonly AllocatedGroup[];
  /** Bits that the groups cost, at most the budget. */
  readonly bits: number;
  /** Squared error of the groups and of what is left out. */
  readonly error: number;
}

/** One way for a group to end at a component, that can be worth its bits. */
interface Choice {
  /** Back-pointer: 1 + size index · types + type index. */
  readonly code: number;
  readonly size: number;
  /** Cost in budget quanta. */
  readonly cost: number;
  /** Energy of the components minus the group's error, > 0. */
  readonly gain: number;
}

function gcd(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}

/** Energy of components [0, i): [rank + 1]. */
function prefixSums(energy: ArrayLike<number>): Float64Array {
  const sums = new Float64Array(energy.length + 1);
  for (let i = 0; i < energy.length; i++) sums[i + 1] = sums[i] + energy[i];
  return sums;
}

/**
 * The groups that end at component i, without those that cannot be in a better solution: a group that reduces the
 * error by nothing (leaving its components out costs nothing and is no worse), and a group for which one of the same
 * size is no dearer and no worse.
 */
function choicesAt(problem: AllocationProblem, energyBefore: Float64Array, quantum: number, i: number): Choice[] {
  const { sizes, typeBits, metadataBits, errors } = problem;
  const choices: Choice[] = [];
  for (let s = 0; s < sizes.length && sizes[s] <= i + 1; s++) {
    const size = sizes[s];
    const blockEnergy = energyBefore[i + 1] - energyBefore[i + 1 - size];
    const ofSize: Choice[] = [];
    for (let t = 0; t < typeBits.length; t++) {
      const error = errors[(i * sizes.length + s) * typeBits.length + t];
      if (!(error >= 0)) throw new RangeError(`Cannot allocate bits: error ${i}, ${size}, ${t} is ${error}`);
      const gain = blockEnergy - error;
      const cost = (metadataBits + size * typeBits[t]) / quantum;
      if (!(gain > 0) || ofSize.some((other) => other.cost <= cost && other.gain >= gain)) continue;
      ofSize.push({ code: 1 + s * typeBits.length + t, size, cost, gain });
    }
    choices.push(...ofSize);
  }
  return choices;
}

/**
 * Solves the problem exactly.
 *
 * State (i, b): the greatest error reduction with components [0, i) and at most b quanta of bits. The quantum is the
 * greatest common divisor of all costs, so nothing is lost by it. The last step into (i, b) is either a group that
 * ends at component i − 1, or leaving component i − 1 out. The paper also has groups of type None in every size; they
 * are not needed: None costs no bits and no metadata and its error is the sum of its components' energies, so a None
 * group of size s equals s single components left out, in cost and in error, and every segmentation with None groups
 * has one with single steps of the same value. Since rows start at "at most b", carrying (i, b − 1) to (i, b) is
 * implied as well.
 *
 * Only the last max(sizes) + 1 rows of values are kept; the back-pointers are one byte a state. Ties go to leaving
 * out, then to the smaller size, then to the earlier type, so that equal tables give equal plans everywhere.
 *
 * Time O(rank · budget / quantum · sizes · types).
 *
 * @throws {RangeError} when lengths do not fit, when an error is negative or NaN, or when the budget is not a
 * non-negative number.
 */
export function solveAllocation(problem: AllocationProblem, budgetBits: number): Allocation {
  const { rank, sizes, typeBits, metadataBits, energy, errors } = problem;
  const types = typeBits.length;
  if (energy.length !== rank || errors.length !== rank * sizes.length * types) {
    throw new RangeError(
      `Cannot allocate bits: the table has ${energy.length} energies and ${errors.length} errors, expected ${rank} ` +
        `and ${rank * sizes.length * types}`,
    );
  }
  if (!(budgetBits >= 0)) {
    throw new RangeError(`Cannot allocate bits: budget is ${budgetBits}, expected a number of at least 0`);
  }
  if (sizes.length * types > 255) {
    throw new RangeError(`Cannot allocate bits: ${sizes.length * types} kinds of groups, expected at most 255`);
  }

  let quantum = 0;
  for (const size of sizes) for (const bits of typeBits) quantum = gcd(quantum, metadataBits + size * bits);
  // More than every component at its dearest cannot be spent.
  const dearest = Math.max(...typeBits) + metadataBits;
  const columns = Math.floor(Math.min(budgetBits, rank * dearest) / quantum) + 1;
  const usable = sizes.filter((size) => size <= rank);
  const ring = Math.max(0, ...usable) + 1;
  const rows = Array.from({ length: Math.min(ring, rank + 1) }, () => new Float64Array(columns));
  const back = new Uint8Array(rank * columns);
  const energyBefore = prefixSums(energy);

  for (let i = 0; i < rank; i++) {
    const row = rows[(i + 1) % rows.length];
    row.set(rows[i % rows.length]);
    const pointers = back.subarray(i * columns, (i + 1) * columns);
    for (const { code, size, cost, gain } of choicesAt(problem, energyBefore, quantum, i)) {
      relax(row, pointers, rows[(i + 1 - size) % rows.length], cost, gain, code);
    }
  }
  return trace(problem, back, columns, quantum);
}

/** row[b] = max(row[b], from[b − cost] + gain), with back-pointers. */
function relax(row: Float64Array, pointers: Uint8Array, from: Float64Array, cost: number, gain: number, code: number) {
  for (let b = cost, a = 0; b < row.length; b++, a++) {
    const value = from[a] + gain;
    if (value > row[b]) {
      row[b] = value;
      pointers[b] = code;
    }
  }
}

/** Follows the back-pointers from the last state. */
function trace(problem: AllocationProblem, back: Uint8Array, columns: number, quantum: number): Allocation {
  const { rank, sizes, typeBits, metadataBits, energy, errors } = problem;
  const groups: AllocatedGroup[] = [];
  let bits = 0;
  let error = 0;
  let b = columns - 1;
  for (let i = rank; i > 0;) {
    const code = back[(i - 1) * columns + b];
    if (code === 0) {
      error += energy[--i];
      continue;
    }
    const s = Math.floor((code - 1) / typeBits.length);
    const t = (code - 1) % typeBits.length;
    const cost = metadataBits + sizes[s] * typeBits[t];
    error += errors[((i - 1) * sizes.length + s) * typeBits.length + t];
    bits += cost;
    b -= cost / quantum;
    i -= sizes[s];
    groups.push({ first: i, size: sizes[s], type: t });
  }
  groups.reverse();
  return { groups, bits, error };
}
