/**
 * What profiles of every method say of their making, read from a header.
 *
 * @module
 */
import type { Fields } from "../container/fields.ts";
import type { TrainingFacts } from "./types.ts";

const MAX_COUNT = 2 ** 53 - 1;

/**
 * Takes the facts that all have from the fields of "calibration"; those of a method's own are left.
 *
 * @throws {KvzFormatError} when one is missing or out of range
 */
export function readTrainingFacts(facts: Fields): TrainingFacts {
  return {
    tokens: facts.integer("tokens", 0, MAX_COUNT),
    sinks: facts.integer("sinks", 0, MAX_COUNT),
    sequences: facts.integer("sequences", 0, MAX_COUNT),
    seed: facts.integer("seed", 0, 2 ** 32 - 1),
  };
}
