/**
 * SnapKV (arXiv 2404.14469): tokens that the last queries attend to, and the window of those queries.
 *
 * @module
 */
import type { Pooling } from "../../stages/tokens/scores.ts";
import { readChoice } from "../options.ts";
import { type Budget, budgetOptions, type Evicting, evicting, type NumberReader, readBudget } from "./evicting.ts";

/** Options of recipe snapkv after defaults. */
export interface SnapKvOptions extends Budget {
  /** Last queries that vote; their tokens are kept. */
  readonly window: number;
  readonly kernel: number;
  readonly pooling: Pooling;
}

/** Declarations of the options that recipe pyramidkv shares. */
export const SNAPKV_OPTIONS: Evicting<object>["options"] = [
  ...budgetOptions(320, null),
  ["window", 64, "newest tokens, whose queries choose; they are kept"],
  ["kernel", 5, "tokens over which scores are pooled, odd"],
  ["pooling", "avg", "avg, max or none"],
];

/** Reads them. */
export function readSnapKv(number: NumberReader, options: Record<string, unknown>): SnapKvOptions {
  const kernel = number("kernel", 5, 1, 255, true);
  if (kernel % 2 === 0) throw new RangeError(`Cannot use option "kernel": it is ${kernel}, expected an odd number`);
  return {
    ...readBudget(number, 320, null),
    window: number("window", 64, 1, 4096, true),
    kernel,
    pooling: readChoice(options, "pooling", ["avg", "max", "none"], "avg"),
  };
}

/** The recipe, with the defaults of the authors' code. */
export const snapKv = evicting<SnapKvOptions>({
  name: "snapkv",
  description: "tokens that the last queries attend to, by pooled softmax attention",
  needs: ["queries"],
  stages: ["keep"],
  options: SNAPKV_OPTIONS,
  parse: readSnapKv,
  select: async (source, options) => (await import("./select_tokens.ts")).selectSnap(source, options),
});
