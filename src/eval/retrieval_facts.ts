/**
 * The facts that retrieval tasks hide in a text: places and numbers, drawn by seed, and the forms in which they are
 * stated and asked for.
 *
 * @module
 */
import { uniformGenerator } from "../profile/random.ts";

/** Name of a retrieval task. */
export type RetrievalTask = "key-value" | "needle";

/** All retrieval tasks. */
export const RETRIEVAL_TASKS: readonly RetrievalTask[] = ["key-value", "needle"];

/** A place and its number. */
export interface Fact {
  /** The place, for instance "Oslo". */
  readonly key: string;
  /** The number, decimal digits without a leading zero. */
  readonly value: string;
}

/** How a task states facts and asks for them. */
export interface FactForm {
  /** Digits of a value. */
  readonly digits: number;
  /** The fact as it stands in the text. */
  state(fact: Fact): string;
  /** What stands after the text and before the answer. It begins with a blank line: the text may stop mid-sentence. */
  ask(key: string): string;
  /** What has to follow. */
  answer(value: string): string;
}

/**
 * The forms in use. Which others were tried with SmolLM2-135M, and how they scored: docs/retrieval.md. A model of that
 * size needs short values and every fact said twice in a row, and is asked in the fact's own words.
 */
export const FACT_FORMS: Readonly<Record<RetrievalTask, FactForm>> = {
  "key-value": {
    digits: 4,
    state: ({ key, value }) => `\n\n${pair(key, value)}, ${pair(key, value)}\n\n`,
    ask: (key) => `\n\n"secret number of ${key}": "`,
    answer: (value) => value,
  },
  needle: {
    digits: 4,
    state: ({ key, value }) => ` One of the secret numbers is ${key} ${value}. Remember: ${key} ${value}.`,
    ask: (key) => `\n\nOne of the secret numbers is ${key}`,
    answer: (value) => ` ${value}`,
  },
};

function pair(key: string, value: string): string {
  return `"secret number of ${key}": "${value}"`;
}

const CITIES: readonly string[] = (
  "Oslo Lima Cairo Madrid Vienna Dublin Nairobi Havana Lisbon Prague Warsaw Athens Helsinki Jakarta Manila Bogota " +
  "Tehran Zagreb Riga Tunis Quito Hanoi Kyoto Geneva Munich Naples Seville Porto Bergen Lagos Accra Dakar"
).split(" ");

/**
 * Draws facts with different keys and values; no key stands in the text, which would give it a second meaning.
 *
 * @param text what the facts will stand in
 * @param count number of facts
 * @param digits digits of a value, 3 to 9
 * @param seed equal seeds give equal facts for equal texts
 * @throws {RangeError} the text names so many of the cities that fewer than `count` are left
 */
export function drawFacts(text: string, count: number, digits: number, seed: number): Fact[] {
  const keys = CITIES.filter((city) => !text.includes(city));
  if (keys.length < count) {
    throw new RangeError(
      `Cannot draw facts: ${keys.length} of ${CITIES.length} keys do not stand in the text, expected at least ${count}`,
    );
  }
  const uniform = uniformGenerator(seed);
  const below = (n: number) => Math.floor(uniform() * n);
  const values = new Set<string>();
  return Array.from({ length: count }, () => {
    const [key] = keys.splice(below(keys.length), 1);
    let value: string;
    do {
      value = `${1 + below(9)}${Array.from({ length: digits - 1 }, () => below(10)).join("")}`;
    } while (values.has(value));
    values.add(value);
    return { key, value };
  });
}
