/**
 * What calibration gathers from caches before anything is fitted: mergeable, independent of the order of the caches and
 * (up to rounding) of how they were divided among jobs.
 *
 * @module
 */
import { resolveModel } from "../cache/fingerprint.ts";
import type { Kind, ModelSpec } from "../cache/types.ts";
import { KvzMismatchError } from "../errors.ts";
import { mergeMoments } from "./gram.ts";
import type { KindStatistics } from "./kind_fitter.ts";
import { SampleSlots } from "./sample.ts";

/** What has to agree before statistics can be merged. */
export interface StatisticsHead {
  /** The model. */
  readonly model: ModelSpec;
  /** Leading tokens of each sequence left out. */
  readonly sinks: number;
  /** Seed of the sample. */
  readonly seed: number;
  /** Most rows of the sample. */
  readonly sampleCapacity: number;
  /** 64-bit hash of each sequence, ascending. */
  readonly sequences: BigUint64Array;
}

/** Statistics of a number of sequences of one model. */
export interface Statistics extends StatisticsHead {
  /** Priorities of the sampled rows (sample.ts), ascending. */
  readonly priorities: Float64Array;
  /** Hashes of 32-token blocks (shingles.ts), ascending. */
  readonly shingles: BigUint64Array;
  /** Moments and sample of keys and of values. */
  readonly kinds: Readonly<Record<Kind, KindStatistics>>;
}

/** Elements of a row of each kind. */
export function featuresOf(model: ModelSpec): Record<Kind, number> {
  const heads = model.layers * model.kvHeads;
  return { key: heads * model.keyDim, value: heads * model.valueDim };
}

/** Sorted hashes without repetitions. */
export function sortHashes(hashes: Iterable<bigint>): BigUint64Array {
  return BigUint64Array.from(new Set(hashes)).sort();
}

/**
 * Merges statistics of disjoint sequences, as `kvz calibrate --merge` does.
 *
 * @throws {KvzMismatchError} when they are of different models, or were made with other sinks, seeds or sample sizes, or
 * share a sequence; the message names both sides.
 * @throws {TypeError} when there are none.
 */
export function mergePartials(partials: readonly Statistics[], names?: readonly string[]): Statistics {
  if (partials.length === 0) throw new TypeError("Cannot merge statistics: there are none");
  const nameOf = (i: number) => names?.[i] ?? `partial ${i + 1}`;
  return partials.reduce((merged, partial, i) => mergeTwo(merged, partial, nameOf(0), nameOf(i)));
}

/** Checks that statistics can be merged and returns their common model. */
export function checkMergeable(a: StatisticsHead, b: StatisticsHead, nameA: string, nameB: string): ModelSpec {
  for (const field of ["sinks", "seed", "sampleCapacity"] as const) {
    if (a[field] !== b[field]) {
      throw new KvzMismatchError(`Cannot merge ${nameB} with ${nameA}: ${field} is ${b[field]}, expected ${a[field]}`);
    }
  }
  const known = new Set(a.sequences);
  for (const sequence of b.sequences) {
    if (known.has(sequence)) {
      throw new KvzMismatchError(
        `Cannot merge ${nameB} with ${nameA}: sequence ${sequence.toString(16).padStart(16, "0")} is in both`,
      );
    }
  }
  return resolveModel(a.model, b.model, { found: nameA, wanted: nameB });
}

function mergeTwo(a: Statistics, b: Statistics, nameA: string, nameB: string): Statistics {
  const model = checkMergeable(a, b, nameA, nameB);
  const slots = new SampleSlots(a.sampleCapacity);
  // Slot → (statistics, row) of what is in it.
  const origin: [Statistics, number][] = [];
  for (const side of [a, b]) {
    side.priorities.forEach((priority, row) => {
      const slot = slots.offer(priority);
      if (slot >= 0) origin[slot] = [side, row];
    });
  }
  const order = slots.order();
  const features = featuresOf(model);
  const kind = (name: Kind): KindStatistics => {
    const p = features[name];
    const sample = new Uint16Array(order.length * p);
    order.forEach((slot, i) => {
      const [side, row] = origin[slot];
      sample.set(side.kinds[name].sample.subarray(row * p, (row + 1) * p), i * p);
    });
    return { moments: mergeMoments(a.kinds[name].moments, b.kinds[name].moments), sample };
  };
  return {
    model,
    sinks: a.sinks,
    seed: a.seed,
    sampleCapacity: a.sampleCapacity,
    sequences: BigUint64Array.from([...a.sequences, ...b.sequences]).sort(),
    priorities: slots.priorities(),
    shingles: sortHashes([...a.shingles, ...b.shingles]),
    kinds: { key: kind("key"), value: kind("value") },
  };
}
