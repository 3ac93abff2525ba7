/**
 * All recipes by name.
 *
 * @module
 */
import { kvtc } from "./kvtc.ts";
import type { Recipe } from "./recipe.ts";

// A recipe's options are its own business; the registry hands them on unseen.
const ALL: readonly Recipe<never>[] = [kvtc as unknown as Recipe<never>];

/** Lists every recipe. */
export function listRecipes(): readonly Recipe<object>[] {
  return ALL as unknown as readonly Recipe<object>[];
}

/**
 * Finds a recipe.
 *
 * @throws {RangeError} when there is none of that name.
 */
export function findRecipe(name: string): Recipe<object> {
  const found = listRecipes().find((recipe) => recipe.name === name);
  if (found === undefined) {
    throw new RangeError(`Cannot find recipe "${name}": there is ${listRecipes().map((r) => r.name).join(", ")}`);
  }
  return found;
}
