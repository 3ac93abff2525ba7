/**
 * Lossy caches of models that no profile was made for: steps, means and spreads are measured on the cache itself.
 *
 *     [chunk]  features → trellis → rans
 *     [sinks]  sinks (fp8) → deflate
 *     [window] byte planes → deflate      (none by default)
 *
 * @module
 */
import { KVZ_TAGS } from "./kvz.ts";
import { MAX_TOKENS, numberReader } from "./options.ts";
import type { Recipe } from "./recipe.ts";

/** Options of recipe kvz-free after defaults. */
export interface KvzFreeOptions {
  /** Quantization step in units of the spread of a layer's keys or values. */
  readonly step: number;
  readonly sinks: number;
  readonly window: number;
}

const codec = () => import("./kvz_free_codec.ts");

/** The recipe. What its lanes run is loaded when it is used. */
export const kvzFree: Recipe<KvzFreeOptions> = {
  name: "kvz-free",
  version: 1,
  description: "no profile: spreads measured on the cache, prediction, trellis-coded quantization, rANS",
  options: [
    { name: "ratio", default: null, description: "ratio of the whole file, instead of a step" },
    { name: "step", default: 0.22, description: "quantization step in units of a layer's spread" },
    { name: "sinks", default: 4, description: "oldest tokens kept in FP8" },
    { name: "window", default: 0, description: "newest tokens kept as they are" },
  ],
  needs: [],
  stages: ["split", "features", "trellis", "rans"],
  groups: [["key", "value"]],
  chunkTokens: 1024,
  knob: { name: "step", min: 1e-4, max: 100, start: (ratio) => ratio * ratio / 165 },
  ratioOfFile: true,

  parseOptions(options) {
    const number = numberReader(this, options);
    return {
      step: number("step", 0.22, 1e-4, 100),
      sinks: number("sinks", 4, 0, MAX_TOKENS, true),
      window: number("window", 0, 0, MAX_TOKENS, true),
    };
  },

  regions: ({ sinks, window }) => ({ sinks, window }),

  planSetup: async (_, facts, { step }) => (await codec()).makeSetup(facts, step),

  loadSetup: async (_, facts, plan, append) => (await codec()).loadSetup(facts, plan, append?.step ?? null),

  tags: (region) => KVZ_TAGS[region],

  open: async (backend, setup) => (await codec()).openCodec(backend, setup),
};
