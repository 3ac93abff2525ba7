/**
 * Palu (arXiv 2407.21118) and ReCalKV (arXiv 2505.24357): the cache holds latents of low-rank factors of k_proj and v_proj,
 * from which keys before RoPE and values are computed. The two differ in how the factors are fitted (tools/recalkv.py):
 * ReCalKV reorders key heads by likeness and takes all value heads together, Palu groups neighbours.
 *
 * Here the latents come from a given cache, by least squares. docs/recipes.md says why these are the latents of the hidden
 * states where a projection adds no more than its bias.
 *
 * @module
 */
import type { LowRankMethod } from "../../profile/lowrank/types.ts";
import { readChoice } from "../options.ts";
import type { Recipe } from "../recipe.ts";
import { type TensorOptions, tensorRecipe } from "../tensor/tensor_recipe.ts";

/** Options of recipes palu and recalkv. */
export interface LowRankOptions {
  /** Bits of a number of a latent; 16 is binary16 as it is. */
  readonly bits: number;
}

const BITS = [16, 8, 4, 3, 2] as const;

function lowRankRecipe(name: LowRankMethod, description: string): Recipe<LowRankOptions & TensorOptions> {
  return tensorRecipe<LowRankOptions>({
    name,
    description,
    options: [{
      name: "bits",
      default: 16,
      description: "bits of a latent's numbers: 16, 8, 4, 3 or 2; the papers have 16, 4 and 3",
    }],
    parse: (_, options) => ({ bits: readChoice(options, "bits", BITS, 16) }),
    profile: name,
    stages: ["split", "lowrank", "latents"],
    chunkTokens: 1024,
    preRope: () => true,
    streams: [{ tag: "LAT" }, { tag: "SCL" }],
    load: () => import("./lowrank_coder.ts"),
  });
}

/** Recipe palu. */
export const palu: Recipe<LowRankOptions & TensorOptions> = lowRankRecipe(
  "palu",
  "Palu (ICLR 2025): latents of whitened low-rank factors, groups of neighbouring heads",
);

/** Recipe recalkv. */
export const recalkv: Recipe<LowRankOptions & TensorOptions> = lowRankRecipe(
  "recalkv",
  "ReCalKV (2025): as Palu, with key heads reordered by likeness and values calibrated in one piece",
);
