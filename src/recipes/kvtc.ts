/**
 * KVTC (arXiv 2511.01815, ICLR 2026): cross-layer PCA of keys before RoPE and of values, bit allocation by dynamic
 * programming, per-token group quantization, DEFLATE. The 4 oldest tokens stay in FP8, the 128 newest as they are.
 *
 *     split → [chunk]  pca → groups → deflate
 *             [sinks]  sinks (fp8)  → deflate
 *             [window] byte planes  → deflate
 *
 * Beside it, as no part of KVTC, an option codes the chunks' streams by rANS, so that what the coder gains can be told.
 *
 * @module
 */
import type { Kind } from "../cache/types.ts";
import { requireProfile } from "../profile/require.ts";
import { MAX_TOKENS, numberReader } from "./options.ts";
import type { Recipe, Region } from "./recipe.ts";

/** Options of recipe kvtc after defaults. */
export interface KvtcOptions {
  /** Target compression ratio before DEFLATE, for keys and values alike. */
  readonly ratio: number;
  /** Target ratio of the keys; `ratio` unless given. */
  readonly keyRatio: number;
  /** Target ratio of the values; `ratio` unless given. */
  readonly valueRatio: number;
  readonly sinks: number;
  readonly window: number;
  /** Coder of the chunks' streams; DEFLATE where absent. */
  readonly entropy?: "rans";
}

/** Record tags. */
export const KVTC_TAGS: Record<Region, Record<Kind, readonly string[]>> = {
  chunk: {
    key: ["KQ2 ", "KQ4 ", "KQ8 ", "KSLO", "KSHI"],
    value: ["VQ2 ", "VQ4 ", "VQ8 ", "VSLO", "VSHI"],
  },
  sinks: { key: ["KSNK"], value: ["VSNK"] },
  window: { key: ["KRAW"], value: ["VRAW"] },
};

/** The recipe. What its lanes run is loaded when it is used. */
export const kvtc: Recipe<KvtcOptions> = {
  name: "kvtc",
  version: 1,
  description: "KVTC (ICLR 2026): cross-layer PCA, DP bit allocation, DEFLATE",
  options: [
    { name: "ratio", default: 16, description: "target compression ratio before DEFLATE" },
    { name: "keyRatio", default: null, description: "target ratio of the keys, instead of ratio" },
    { name: "valueRatio", default: null, description: "target ratio of the values, instead of ratio" },
    { name: "sinks", default: 4, description: "oldest tokens kept in FP8" },
    { name: "window", default: 128, description: "newest tokens kept as they are" },
    {
      name: "entropy",
      default: "deflate",
      description: "coder of codes and scales: deflate, or rans (no part of KVTC)",
    },
  ],
  needs: ["profile"],
  stages: ["split", "pca", "groups", "deflate"],
  groups: [["key"], ["value"]],
  chunkTokens: 256,
  knob: { name: "ratio", min: 1, max: 10000, start: (fileRatio) => fileRatio },
  ratioOfFile: false,

  parseOptions(options) {
    const number = numberReader(this, options);
    const { entropy = "deflate" } = options;
    if (entropy !== "deflate" && entropy !== "rans") {
      throw new RangeError(`Cannot use option "entropy": it is ${entropy}, expected deflate or rans`);
    }
    const ratio = number("ratio", 16, 1, 10000);
    return {
      ratio,
      keyRatio: number("keyRatio", ratio, 1, 10000),
      valueRatio: number("valueRatio", ratio, 1, 10000),
      sinks: number("sinks", 4, 0, MAX_TOKENS, true),
      window: number("window", 128, 0, MAX_TOKENS, true),
      ...(entropy === "rans" ? { entropy } as const : {}),
    };
  },

  regions: ({ sinks, window }) => ({ sinks, window }),

  planSetup: async (profile, facts, options) =>
    (await import("./kvtc_codec.ts")).planSetup(requireProfile(profile, "kvtc"), facts, options),

  loadSetup: async (profile, facts, plan) =>
    (await import("./kvtc_codec.ts")).loadSetup(requireProfile(profile, "kvtc"), facts, plan),

  tags: (region, [kind]) => KVTC_TAGS[region][kind],

  open: async (backend, setup) => (await import("./kvtc_codec.ts")).openCodec(backend, setup),
};
