/**
 * Recipes that need no profile, with the settings that comparisons use.
 *
 * @module
 */
import type { Codec } from "../src/codec/codec.ts";
import { type Method, recipeMethod } from "../src/eval/method.ts";

/** Recipes with their settings, beside kvz-free. */
const SETTINGS: readonly (readonly [recipe: string, options: Method["options"]])[] = [
  ["kivi", { bits: 2 }],
  ["kivi", { bits: 4 }],
  ["kivi", { bits: 2, residual: 0 }],
  ["kvcomp", { keyRel: 0.0125, valueRel: 0.025 }],
  ["kvcomp", { keyRel: 0.025, valueRel: 0.05 }],
  ["kvcomp", { keyRel: 0.05, valueRel: 0.1 }],
  ["turboquant", { bits: 2 }],
  ["turboquant", { bits: 3 }],
  ["turboquant", { bits: 4 }],
  ["quarot", {}],
  ["cachegen", {}],
  ["q8_0", {}],
  ["q4_0", {}],
];

/** kvz-free at the steps, and the others; the oldest `sinks` tokens are apart in all of them. */
export function profileFreeMethods(codec: Codec, steps: readonly number[], sinks: number): Method[] {
  const of = (recipe: string, options: Method["options"]): Method => ({
    ...recipeMethod(codec, recipe, { ...options, sinks }),
    usesProfile: false,
  });
  return [
    ...steps.map((step) => of("kvz-free", { step })),
    ...SETTINGS.map(([recipe, options]) => of(recipe, options)),
  ];
}
