/**
 * H2O, Heavy-Hitter Oracle (arXiv 2306.14048): tokens that were attended to most, and the newest ones, half of each.
 *
 * @module
 */
import { type Budget, budgetOptions, evicting, readBudget } from "./evicting.ts";

/** The recipe. By default the paper's 20 %: a tenth heavy hitters, a tenth recent. */
export const h2o = evicting<Budget>({
  name: "h2o",
  description: "tokens with the most attention of the captured queries, and as many of the newest",
  needs: ["queries"],
  stages: ["keep"],
  options: budgetOptions(null, 0.2),
  parse: (number) => readBudget(number, null, 0.2),
  select: async (source, options) => (await import("./select_tokens.ts")).selectHeavy(source, options),
});
