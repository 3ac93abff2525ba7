/**
 * Recipes of other methods of the field, loaded when one is asked for.
 *
 * @module
 */
import { BASELINES } from "./baselines/all.ts";
import { diffKv } from "./diffkv/diffkv.ts";
import { EVICTING } from "./evict/all.ts";
import { kvcar } from "./kvcar/kvcar.ts";
import { palu, recalkv } from "./lowrank/lowrank.ts";
import { kvcomp } from "./kvcomp.ts";
import { kvquant } from "./kvquant/kvquant.ts";
import { packKv } from "./packkv/packkv.ts";
import type { Recipe } from "./recipe.ts";
import { kvsharer } from "./sharing/kvsharer.ts";

const ALL: readonly unknown[] = [
  kvcar,
  recalkv,
  palu,
  kvquant,
  kvcomp,
  packKv,
  diffKv,
  ...EVICTING,
  ...BASELINES,
  kvsharer,
];

/** In the order of lists. */
export const METHODS = ALL as readonly Recipe<object>[];
