/**
 * DiffKV (arXiv 2412.03131, SOSP 2025): tokens of each head in high or low precision, or pruned, by the attention that they
 * receive.
 *
 *     [chunk] classes → pages
 *
 * @module
 */
import { PRECISION_NAMES, type PrecisionName } from "../../stages/diffkv/presets.ts";
import { numberReader, readChoice } from "../options.ts";
import type { Recipe } from "../recipe.ts";

/** Options of recipe diffkv after defaults. */
export interface DiffKvOptions {
  /** Mean attention below which a token is kept in low precision, in units of 1 / tokens. */
  readonly alphaHigh: number;
  /** Mean attention below which it is pruned. */
  readonly alphaLow: number;
  /** Newest tokens that are always in high precision. */
  readonly buffer: number;
  readonly high: PrecisionName;
  readonly low: PrecisionName;
}

const codec = () => import("./diffkv_codec.ts");

/** The recipe. What its lanes run is loaded when it is used. */
export const diffKv: Recipe<DiffKvOptions> = {
  name: "diffkv",
  version: 1,
  description: "DiffKV: each head keeps a token as K8V4, as K4V2 or not at all, by the attention it receives",
  options: [
    { name: "alphaHigh", default: 1, description: "low precision below this mean attention × tokens" },
    { name: "alphaLow", default: 0.02, description: "pruned below this mean attention × tokens" },
    { name: "buffer", default: 64, description: "newest tokens that are always in high precision" },
    { name: "high", default: "k8v4", description: `high precision: ${PRECISION_NAMES.join(", ")}` },
    { name: "low", default: "k4v2", description: "low precision, one of the same" },
  ],
  needs: ["queries"],
  stages: ["classes", "pages"],
  groups: [["key", "value"]],
  chunkTokens: 1024,
  knob: null,
  ratioOfFile: false,

  parseOptions(options) {
    const number = numberReader(this, options);
    const alphaHigh = number("alphaHigh", 1, 0, 1e6);
    const alphaLow = number("alphaLow", Math.min(0.02, alphaHigh), 0, 1e6);
    if (alphaLow > alphaHigh) {
      throw new RangeError(`Cannot use option "alphaLow": it is ${alphaLow}, expected at most alphaHigh, ${alphaHigh}`);
    }
    return {
      alphaHigh,
      alphaLow,
      buffer: number("buffer", 64, 1, 4096, true),
      high: readChoice(options, "high", PRECISION_NAMES, "k8v4"),
      low: readChoice(options, "low", PRECISION_NAMES, "k4v2"),
    };
  },

  regions: () => ({ sinks: 0, window: 0 }),

  select: async (source, options) => (await import("./select_classes.ts")).selectClasses(source, options),

  running: async (source, restored, options) => (await import("./running.ts")).runDiffKv(source, restored, options),

  planSetup: async (_, facts, options) => (await codec()).planSetup(facts, options),

  loadSetup: async (_, facts, plan, _append, options) => (await codec()).loadSetup(facts, plan, options),

  tags: (region) => region === "chunk" ? ["PAGE"] : [],

  open: async (backend, setup) => (await codec()).openCodec(backend, setup),
};
