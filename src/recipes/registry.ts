/**
 * All recipes by name. Those of other methods are loaded when one is asked for, so that programs do not carry them.
 *
 * @module
 */
import { kvtc } from "./kvtc.ts";
import { kvz } from "./kvz.ts";
import { kvzFree } from "./kvz_free.ts";
import { lossless } from "./lossless.ts";
import type { Recipe, RecipeInfo } from "./recipe.ts";

// A recipe's options are its own business; the registry hands them on unseen.
const OWN = [kvz, kvzFree, kvtc, lossless] as readonly unknown[] as readonly Recipe<object>[];

async function all(): Promise<readonly Recipe<object>[]> {
  return [...OWN, ...(await import("./methods.ts")).METHODS];
}

/** Lists every recipe with its options and needs. */
export async function listRecipes(): Promise<readonly RecipeInfo[]> {
  return await all();
}

/** Finds a recipe, undefined where there is none of that name. */
export async function recipeNamed(name: string): Promise<Recipe<object> | undefined> {
  const named = (recipe: Recipe<object>) => recipe.name === name;
  return OWN.find(named) ?? (await all()).find(named);
}

/**
 * Finds a recipe.
 *
 * @throws {RangeError} when there is none of that name.
 */
export async function findRecipe(name: string): Promise<Recipe<object>> {
  const found = await recipeNamed(name);
  if (found === undefined) {
    throw new RangeError(
      `Cannot find recipe "${name}": there is ${(await all()).map((recipe) => recipe.name).join(", ")}`,
    );
  }
  return found;
}
