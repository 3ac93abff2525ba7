/**
 * Option `decode` of a method: every how many tokens of the continuation its recipe acts on the cache.
 *
 * @module
 */
import type { KvCache } from "../cache/kv_cache.ts";
import { findRecipe, listRecipes } from "../recipes/registry.ts";
import type { RunningCache } from "../recipes/running.ts";
import { STEP } from "./capture.ts";
import type { Method } from "./method.ts";

/** A method's options, with what is evaluation's taken out. */
export interface DecodeOption {
  /** The recipe's own options. */
  readonly own: Method["options"];
  /** null: it only compresses and restores. */
  readonly decode: {
    readonly every: number;
    /** The recipe's rule, for a cache and what was restored of it. */
    rule(source: KvCache, restored: KvCache): Promise<RunningCache>;
  } | null;
}

/**
 * Reads it.
 *
 * @throws {RangeError} It is no whole number from 1 to 512, or the recipe has no rule for decoding.
 */
export async function readDecode(name: string, options: Method["options"]): Promise<DecodeOption> {
  const { decode: every, ...own } = options;
  if (every === undefined) return { own, decode: null };
  if (typeof every !== "number" || !Number.isInteger(every) || every < 1 || every > STEP) {
    throw new RangeError(`Cannot use option "decode": it is ${every}, expected a whole number from 1 to ${STEP}`);
  }
  const recipe = await findRecipe(name);
  if (recipe.running === undefined) {
    const all = await Promise.all((await listRecipes()).map((info) => findRecipe(info.name)));
    const able = all.filter(({ running }) => running !== undefined).map((one) => one.name);
    throw new RangeError(
      `Cannot use option "decode": recipe ${name} does nothing while a model decodes; ${able.join(", ")} do`,
    );
  }
  return { own, decode: { every, rule: (source, back) => recipe.running!(source, back, recipe.parseOptions(own)) } };
}
