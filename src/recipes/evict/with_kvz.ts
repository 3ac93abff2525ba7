/**
 * A recipe that evicts, with what is kept coded by recipe kvz (`code: "kvz"`): the file has kvz's regions and streams, of
 * fewer tokens, and the evicting recipe's marks.
 *
 * @module
 */
import { kvz, type KvzOptions } from "../kvz.ts";
import { outerSetup, type Recipe, type Setup } from "../recipe.ts";
import type { CodeOptions } from "./codes.ts";

/** Setup of the lanes: that of kvz under the evicting recipe's name. */
export interface KeptKvzSetup extends Setup {
  readonly kvz: Setup;
}

/** The oldest token stays for all heads in FP8, as in kvz: its few huge elements are no matter for a transform. */
const SINKS = 1;

/** Options of kvz among those of an evicting recipe. */
export function kvzOptionsOf({ quality, step }: Pick<CodeOptions, "quality" | "step">): KvzOptions {
  return kvz.parseOptions({
    ...(quality ? { quality } : {}),
    ...(step ? { step } : {}),
    sinks: SINKS,
    window: 0,
    recent: 0,
  });
}

/** The recipe as it is with that code. */
export function withKvz<Options extends CodeOptions>(recipe: Recipe<Options>): Recipe<Options> {
  const { name } = recipe;
  const wrap = (inner: Setup): Setup => {
    const setup: KeptKvzSetup = { recipe: name, ...outerSetup(inner, name), kvz: inner };
    return setup;
  };
  return {
    ...recipe,
    needs: [...recipe.needs, "profile"],
    profile: kvz.name,
    stages: [...recipe.stages, ...kvz.stages],
    groups: kvz.groups,
    chunkTokens: kvz.chunkTokens,
    regions: () => ({ sinks: SINKS, window: 0 }),
    tags: kvz.tags,
    planSetup: async (profile, facts, options) => wrap(await kvz.planSetup(profile, facts, kvzOptionsOf(options))),
    loadSetup: async (profile, facts, plan, _, options) =>
      wrap(await kvz.loadSetup(profile, facts, plan, undefined, kvzOptionsOf(options))),
  };
}
