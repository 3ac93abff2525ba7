/**
 * Recipes of other methods of the field, loaded when one is asked for.
 *
 * @module
 */
import { cachegen } from "./baselines/cachegen.ts";
import { fp8 } from "./baselines/fp8.ts";
import { q40, q80 } from "./baselines/ggml.ts";
import { kivi } from "./baselines/kivi.ts";
import { quarot } from "./baselines/quarot.ts";
import { turboquant } from "./baselines/turboquant.ts";
import { diffKv } from "./diffkv/diffkv.ts";
import { EVICTING } from "./evict/all.ts";
import { kvcar } from "./kvcar/kvcar.ts";
import { kvcomp } from "./kvcomp.ts";
import { packKv } from "./packkv/packkv.ts";
import type { Recipe } from "./recipe.ts";

const ALL: readonly unknown[] = [
  kvcar,
  kvcomp,
  packKv,
  diffKv,
  ...EVICTING,
  kivi,
  cachegen,
  turboquant,
  quarot,
  q80,
  q40,
  fp8,
];

/** In the order of lists. */
export const METHODS = ALL as readonly Recipe<object>[];
