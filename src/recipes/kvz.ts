/**
 * The recipe of this project: a joint, sensitivity-weighted transform of keys and values, prediction from similar tokens,
 * trellis-coded quantization with one step for all components, rANS, and an exact integer way back (docs/recipes.md).
 *
 *     [chunk]  joint transform → trellis → rans
 *     [sinks]  sinks (fp8)     → deflate
 *     [window] byte planes     → deflate        (none by default)
 *
 * @module
 */
import { requireProfile } from "../profile/require.ts";
import { MAX_TOKENS, numberReader } from "./options.ts";
import type { Knob, Recipe, Region } from "./recipe.ts";

/** Named qualities, from the smallest files to the best. */
export type KvzQuality = "small" | "balanced" | "high";

/** Options of recipe kvz after defaults. */
export interface KvzOptions {
  /** Quantization step in the profile's units; null: that of the quality. */
  readonly step: number | null;
  readonly quality: KvzQuality;
  /** Largest predicted KL in nats; null: that of the quality. */
  readonly maxKl: number | null;
  /** Weight of a bit against a squared error of a step. */
  readonly lambda: number;
  readonly sinks: number;
  readonly window: number;
  /** Most of the newest tokens with a finer step. */
  readonly recent: number;
  /** Their step ÷ that of the others. */
  readonly recentStep: number;
}

/** Record tags. */
export const KVZ_TAGS: Record<Region, readonly string[]> = {
  chunk: ["SIDE", "SYMB", "ESCP"],
  sinks: ["KSNK", "VSNK"],
  window: ["KRAW", "VRAW"],
};

/** In short caches finer tokens would be most of the file. */
const RECENT_SHARE = 8;

/** All qualities, from the smallest files to the best. */
export const QUALITIES: readonly KvzQuality[] = ["small", "balanced", "high"];

/**
 * Mean KL that the qualities stand for where the profile has a measured curve, nats. It is a mean over texts of all kinds:
 * those that calibration knew lose about half of it, those that it did not know about twice.
 */
export const QUALITY_KL: Readonly<Record<KvzQuality, number>> = { small: 0.05, balanced: 0.035, high: 0.025 };

const start: Knob["start"] = async (fileRatio, profile) =>
  (await import("./kvz_setup.ts")).startStep(fileRatio, requireProfile(profile, "kvz"));

/** The recipe. What its lanes run is loaded when it is used. */
export const kvz: Recipe<KvzOptions> = {
  name: "kvz",
  version: 1,
  description: "joint weighted transform, prediction, trellis-coded quantization, rANS, integer reconstruction",
  options: [
    { name: "quality", default: "balanced", description: "small, balanced or high" },
    { name: "ratio", default: null, description: "ratio of the whole file, instead of a quality" },
    {
      name: "maxKl",
      default: null,
      description: "largest predicted KL, instead of a quality (needs a measured curve)",
    },
    { name: "step", default: null, description: "quantization step in the profile's units, instead of a quality" },
    { name: "lambda", default: 0.3, description: "weight of a bit against a squared error of a step" },
    { name: "sinks", default: 1, description: "oldest tokens kept in FP8" },
    { name: "window", default: 0, description: "newest tokens kept as they are" },
    { name: "recent", default: 128, description: "newest tokens with a finer step, at most an eighth of the cache" },
    { name: "recentStep", default: 0.5, description: "their step, as a share of the others'" },
  ],
  needs: ["profile"],
  stages: ["split", "joint transform", "trellis", "rans"],
  groups: [["key", "value"]],
  chunkTokens: 512,
  byLayers: true,
  knob: { name: "step", min: 1e-9, max: 1e9, start },
  ratioOfFile: true,

  parseOptions(options) {
    const number = numberReader(this, options);
    const { quality = "balanced" } = options;
    if (!QUALITIES.includes(quality as KvzQuality)) {
      throw new RangeError(`Cannot use option "quality": it is ${quality}, expected ${QUALITIES.join(", ")}`);
    }
    const chosen = ["step", "quality", "maxKl", "ratio"].filter((name) => (options[name] ?? null) !== null);
    const settled = chosen.filter((name) => name !== "quality" || options.quality !== "balanced");
    if (settled.length > 1) {
      throw new TypeError(`Cannot use options ${settled.map((name) => `"${name}"`).join(" and ")} together`);
    }
    return {
      step: number("step", null, 1e-9, 1e9),
      quality: quality as KvzQuality,
      maxKl: number("maxKl", null, 1e-9, 1e3),
      lambda: number("lambda", 0.3, 0, 16),
      sinks: number("sinks", 1, 0, MAX_TOKENS, true),
      window: number("window", 0, 0, MAX_TOKENS, true),
      recent: number("recent", 128, 0, MAX_TOKENS, true),
      recentStep: number("recentStep", 0.5, 1 / 16, 1),
    };
  },

  regions: ({ sinks, window, recent }, tokens) => ({
    sinks,
    window,
    recent: Math.min(recent, Math.floor(tokens / RECENT_SHARE)),
  }),

  planSetup: async (profile, facts, options) => {
    const { planSetup } = await import("./kvz_setup.ts");
    return await planSetup(requireProfile(profile, "kvz"), facts, options);
  },

  loadSetup: async (profile, facts, plan, append) => {
    const { loadSetup } = await import("./kvz_setup.ts");
    return await loadSetup(requireProfile(profile, "kvz"), facts, plan, append);
  },

  tags: (region) => KVZ_TAGS[region],

  open: async (backend, setup) => (await import("./kvz_codec.ts")).openCodec(backend, setup),
};
