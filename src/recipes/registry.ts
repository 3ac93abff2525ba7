/**
 * All recipes by name.
 *
 * @module
 */
import { kvtc } from "./kvtc.ts";
import { kvz } from "./kvz.ts";
import { kvzFree } from "./kvz_free.ts";
import { lossless } from "./lossless.ts";
import type { Recipe, RecipeInfo } from "./recipe.ts";

// A recipe's options are its own business; the registry hands them on unseen.
const ALL: readonly Recipe<object>[] = [kvz, kvzFree, kvtc, lossless].map((recipe) =>
  recipe as unknown as Recipe<object>
);

/** Lists every recipe with its options and needs. */
export function listRecipes(): readonly RecipeInfo[] {
  return ALL;
}

/** Finds a recipe, undefined where there is none of that name. */
export function recipeNamed(name: string): Recipe<object> | undefined {
  return ALL.find((recipe) => recipe.name === name);
}

/**
 * Finds a recipe.
 *
 * @throws {RangeError} when there is none of that name.
 */
export function findRecipe(name: string): Recipe<object> {
  const found = recipeNamed(name);
  if (found === undefined) {
    throw new RangeError(`Cannot find recipe "${name}": there is ${ALL.map((recipe) => recipe.name).join(", ")}`);
  }
  return found;
}
