/**
 * Recipes of other methods of the field, loaded when one is asked for.
 *
 * @module
 */
import { q40, q80 } from "./baselines/ggml.ts";
import { kvcomp } from "./kvcomp.ts";
import { packKv } from "./packkv/packkv.ts";
import type { Recipe } from "./recipe.ts";

/** In the order of lists. */
export const METHODS = [kvcomp, packKv, q80, q40] as readonly unknown[] as readonly Recipe<object>[];
