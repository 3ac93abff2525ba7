/**
 * KVQuant (arXiv 2401.18079, NeurIPS 2024): keys before RoPE by channel with calibrated thresholds, values by token,
 * codebooks fitted to each layer, and outliers beside the codes.
 *
 *     [sinks] the first token, as it is
 *     [chunk] keys: undo RoPE; both: outliers → codebook → bits
 *
 * @module
 */
import { KVQUANT_BITS, KVQUANT_OUTLIERS } from "../../profile/kvquant/types.ts";
import { readChoice } from "../options.ts";
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

/** Options of recipe kvquant. */
export interface KvquantOptions {
  /** Bits of a code. */
  readonly bits: number;
  /** Elements kept beside the codes, percent. */
  readonly outliers: number;
  /** Whether restored elements have the mean and spread of those that the codebook was fitted to. */
  readonly qnorm: "on" | "off";
}

/** The recipe. */
export const kvquant = tensorRecipe<KvquantOptions>({
  name: "kvquant",
  description: "KVQuant (NeurIPS 2024): keys before RoPE by channel, values by token, fitted codebooks, outliers apart",
  options: [
    { name: "bits", default: 3, description: "bits of a code: 4, 3 or 2" },
    { name: "outliers", default: 1, description: "percent of the elements kept beside the codes: 1, 0.5, 0.1 or 0" },
    {
      name: "qnorm",
      default: null,
      description: "Q-Norm, which gives back mean and spread: on or off; on at 2 bits, off at others",
    },
  ],
  parse(_, options) {
    const bits = readChoice(options, "bits", KVQUANT_BITS, 3);
    return {
      bits,
      outliers: readChoice(options, "outliers", KVQUANT_OUTLIERS, 1),
      qnorm: readChoice(options, "qnorm", ["on", "off"], bits === 2 ? "on" : "off"),
    };
  },
  profile: "kvquant",
  stages: ["split", "outliers", "codebook", "bits"],
  chunkTokens: 1024,
  sinks: 1,
  preRope: () => true,
  streams: [{ tag: "COD" }, { tag: "TOK" }, { tag: "OUT" }],
  load: () => import("./kvquant_coder.ts"),
});
