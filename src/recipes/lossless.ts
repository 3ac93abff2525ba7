/**
 * Bit-exact caches: every element comes back as it was, NaN payloads included. Exponents are coded, fractions stay as
 * they are (src/stages/lossless/). Needs no profile.
 *
 *     [chunk] split → rows → rans
 *
 * @module
 */
import type { Kind } from "../cache/types.ts";
import { numberReader } from "./options.ts";
import type { Recipe } from "./recipe.ts";

const TAGS: Record<Kind, readonly string[]> = {
  key: ["KCTX", "KSYM", "KLOW", "KESC"],
  value: ["VCTX", "VSYM", "VLOW", "VESC"],
};

/** Most symbols of a kind in a chunk: a lane has three bytes of memory for each, and rANS takes 2^28 in a stream. */
const MOST_SYMBOLS = 2 ** 26;

/** The recipe. What its lanes run is loaded when it is used. */
export const lossless: Recipe<Record<string, never>> = {
  name: "lossless",
  version: 1,
  description: "bit-exact: exponents by rANS with contexts of channel and rotation, fractions raw",
  options: [],
  needs: [],
  stages: ["split", "rows", "rans"],
  groups: [["key"], ["value"]],
  chunkTokens: 1024,
  chunkTokensOf({ layers, kvHeads, keyDim, valueDim }) {
    const rows = layers * kvHeads * Math.max(keyDim, valueDim);
    let tokens = this.chunkTokens;
    while (tokens > 256 && rows * tokens > MOST_SYMBOLS) tokens /= 2;
    return tokens;
  },
  takesViews: true,
  knob: null,
  ratioOfFile: false,

  parseOptions(options) {
    numberReader(this, options);
    return {};
  },

  regions: () => ({ sinks: 0, window: 0 }),

  planSetup: async (_, facts) => (await import("./lossless_codec.ts")).planSetup(facts),

  loadSetup: async (_, facts, plan) => (await import("./lossless_codec.ts")).loadSetup(facts, plan),

  tags: (region, [kind]) => region === "chunk" ? TAGS[kind] : [],

  open: async (backend, setup) => (await import("./lossless_codec.ts")).openCodec(backend, setup, TAGS),
};
