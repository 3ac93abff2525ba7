/**
 * ThinK (arXiv 2407.21018): channels of the keys that the last queries do not use are left out; after SnapKV if wanted.
 *
 * @module
 */
import { readChoice } from "../options.ts";
import { evicting } from "./evicting.ts";
import { readSnapKv, SNAPKV_OPTIONS, type SnapKvOptions } from "./snapkv.ts";

/** Options of recipe think after defaults. */
export interface ThinkOptions extends SnapKvOptions {
  /** Share λ of the key channels that is left out. */
  readonly prune: number;
  /** Newest tokens whose keys are whole. */
  readonly recent: number;
  /** Last queries that the channels' scores are of. */
  readonly queries: number;
  /** What chooses tokens before channels are: nothing, or SnapKV with its options. */
  readonly after: "none" | "snapkv";
}

/** The recipe, with the paper's λ = 0.4 and the defaults of the authors' code. */
export const think = evicting<ThinkOptions>({
  name: "think",
  description: "keys without the channels that the last queries use least, after snapkv if wanted",
  needs: ["queries"],
  stages: ["prune"],
  prunes: true,
  window: ({ recent }) => recent,
  options: [
    ["prune", 0.4, "share of the key channels that is left out"],
    ["recent", 32, "newest tokens whose keys stay whole"],
    ["queries", 32, "last queries that choose the channels"],
    ["after", "none", "none, or snapkv: tokens are chosen first, with the options that follow"],
    ...SNAPKV_OPTIONS,
  ],
  parse: (number, options) => ({
    ...readSnapKv(number, options),
    prune: number("prune", 0.4, 0, 1),
    recent: number("recent", 32, 0, 4096, true),
    queries: number("queries", 32, 1, 4096, true),
    after: readChoice(options, "after", ["none", "snapkv"], "none"),
  }),
  select: async (source, options) => (await import("./select_channels.ts")).selectChannels(source, options),
});
