/**
 * What `kvz compare` found, as plain data.
 *
 * @module
 */
import type { EvalResult } from "../../src/eval/point.ts";
import type { LeftOut } from "./needs.ts";

/** A recipe that was compared. */
export interface ComparedRecipe {
  readonly name: string;
  readonly description: string;
  /** What it needs beside the cache: "profile", "queries", "map", … */
  readonly needs: readonly string[];
  /** Bytes of what was fitted for it (profile, layer map), stated beside the ratios, never inside; null without such. */
  readonly artefactBytes: number | null;
}

/** Everything that `kvz compare` found. */
export interface CompareResult extends EvalResult {
  /** Those that have points, in the order of `kvz recipes`. */
  readonly recipes: readonly ComparedRecipe[];
  /** Recipes and settings without points, with the reason. */
  readonly leftOut: readonly LeftOut[];
}
