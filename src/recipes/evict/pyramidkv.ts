/**
 * PyramidKV (arXiv 2406.02069): SnapKV with budgets that fall from layer to layer.
 *
 * @module
 */
import { readChoice } from "../options.ts";
import { evicting } from "./evicting.ts";
import { readSnapKv, SNAPKV_OPTIONS, type SnapKvOptions } from "./snapkv.ts";

/** Options of recipe pyramidkv after defaults. */
export interface PyramidKvOptions extends SnapKvOptions {
  /** Steepness of the pyramid. */
  readonly beta: number;
  /** Whose formula of the budgets: they differ in rounding and in where the window counts. */
  readonly budgets: "authors" | "kvpress";
}

/** The recipe, with the defaults of the authors' code. */
export const pyramidKv = evicting<PyramidKvOptions>({
  name: "pyramidkv",
  description: "snapkv with budgets that fall from the first layer to the last",
  needs: ["queries"],
  stages: ["keep"],
  options: [
    ...SNAPKV_OPTIONS,
    ["beta", 20, "steepness of the pyramid, 1 for none"],
    ["budgets", "authors", "formula of the budgets: authors or kvpress"],
  ],
  parse: (number, options) => ({
    ...readSnapKv(number, options),
    beta: number("beta", 20, 1, 1e6),
    budgets: readChoice(options, "budgets", ["authors", "kvpress"], "authors"),
  }),
  select: async (source, options) => (await import("./select_tokens.ts")).selectPyramid(source, options),
});
