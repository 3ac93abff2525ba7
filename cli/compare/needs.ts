/**
 * What the recipes of a comparison need, and which of them have to be left out for the lack of it.
 *
 * @module
 */
import type { OnnxModel } from "../../src/adapters/onnx_model.ts";
import { chooseRecipe } from "../../src/codec/encode.ts";
import type { RecipeInfo } from "../../src/recipes/recipe.ts";
import { profileFor } from "../eval/codec_pool.ts";
import type { Artefacts } from "../eval/options.ts";
import type { Setting } from "../eval/run.ts";

/** Recipes whose profiles `kvz calibrate` makes. */
const CALIBRATED = ["kvz", "kvtc", "kvquant"];

/** A setting that was not compared. */
export interface LeftOut {
  readonly method: string;
  /** "" where it is the recipe as a whole. */
  readonly setting: string;
  readonly reason: string;
}

/** What a model gives beside logits. */
export type ModelAbilities = Pick<OnnxModel, "takesBias" | "takesLayerSource" | "givesQueries">;

/** The settings whose recipes have what they need, and the recipes that do not. */
export async function splitByNeeds(
  settings: readonly Setting[],
  artefacts: Artefacts,
  model: ModelAbilities,
): Promise<{ readonly ready: Setting[]; readonly leftOut: LeftOut[] }> {
  const ready: Setting[] = [];
  const leftOut = new Map<string, LeftOut>();
  for (const setting of settings) {
    const reason = lacking(await settledRecipe(setting), setting, artefacts, model);
    if (reason === null) ready.push(setting);
    else leftOut.set(setting.recipe, { method: setting.recipe, setting: "", reason });
  }
  return { ready, leftOut: [...leftOut.values()] };
}

async function settledRecipe({ recipe, options }: Setting): Promise<RecipeInfo> {
  return (await chooseRecipe({ ...options, recipe }, null)).recipe;
}

function lacking(
  recipe: RecipeInfo,
  { options }: Setting,
  { profiles, sharing }: Artefacts,
  model: ModelAbilities,
): string | null {
  const name = recipe.profile ?? recipe.name;
  for (const need of recipe.needs) {
    if (need === "profile") {
      if (profileFor(recipe, profiles) !== undefined) continue;
      const maker = CALIBRATED.includes(name) ? `kvz calibrate --recipe ${name} makes one` : "docs/recipes.md";
      return `it needs a profile: -p names one (${maker})`;
    }
    if (need === "queries") {
      if (!model.givesQueries) return "it needs queries, which this graph does not give: --graph capture";
      if (!model.takesBias) return "its caches need an attention bias, which this graph does not take: --graph capture";
      continue;
    }
    if (need === "map") {
      if (sharing === null && options.map === undefined) {
        return "it needs a layer map: --map names one (kvz sharing makes one)";
      }
      if (!model.takesLayerSource) return "its layers share, which this graph cannot: --graph capture";
      continue;
    }
    return `it needs ${need}, which kvz compare cannot give`;
  }
  return null;
}

/** Bytes of what was fitted for a recipe, null where it needs nothing of that kind. */
export function artefactBytes({ name, needs }: RecipeInfo, sizes: Artefacts["bytes"]): number | null {
  if (needs.includes("profile")) return sizes.profiles.get(name) ?? null;
  return needs.includes("map") ? sizes.sharing : null;
}
