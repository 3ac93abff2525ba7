/**
 * Reading a recipe's options.
 *
 * @module
 */
import type { RecipeInfo } from "./recipe.ts";

/** Largest number of tokens that an option may name. */
export const MAX_TOKENS = 1 << 20;

/**
 * Reads numbers of a recipe's options: `(name, otherwise, min, max, whole?)`, null where neither is given.
 *
 * @throws {RangeError} when an option is unknown; the reader: when a number is out of range.
 * @throws {TypeError} the reader: when an option is no finite number.
 */
export function numberReader({ name: recipe, options: specs }: RecipeInfo, options: Record<string, unknown>): <
  T extends number | null,
>(name: string, otherwise: T, min: number, max: number, whole?: boolean) => number | T {
  const known = specs.map(({ name }) => name);
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw new RangeError(`Cannot use option "${name}": recipe ${recipe} has ${known.join(", ") || "none"}`);
    }
  }
  return (name, otherwise, min, max, whole = false) => {
    const value = options[name] ?? otherwise;
    if (value === null) return otherwise;
    const told = `Cannot use option "${name}": it is ${value}, expected`;
    if (typeof value !== "number" || !Number.isFinite(value)) throw new TypeError(`${told} a finite number`);
    if (!(value >= min && value <= max) || (whole && !Number.isInteger(value))) {
      throw new RangeError(`${told} ${whole ? "a whole number from " : ""}${min} to ${max}`);
    }
    return value;
  };
}

/**
 * Reads an option that is one of a few words or numbers.
 *
 * @throws {RangeError} It is none of them.
 */
export function readChoice<T extends string | number>(
  options: Record<string, unknown>,
  name: string,
  choices: readonly T[],
  otherwise: T,
): T {
  const value = options[name] ?? otherwise;
  const found = choices.find((choice) => choice === value);
  if (found === undefined) {
    throw new RangeError(`Cannot use option "${name}": it is ${value}, expected ${choices.join(", ")}`);
  }
  return found;
}
