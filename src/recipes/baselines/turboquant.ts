/**
 * TurboQuant (arXiv 2504.19874): a random rotation makes every coordinate of a head alike, so that one scalar codebook,
 * known beforehand, serves all.
 *
 * @module
 */
import { readChoice } from "../options.ts";
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

/** Options of recipe turboquant. */
export interface TurboquantOptions {
  /** Bits of a coordinate; of variant "prod" one of them is the sketch's. */
  readonly bits: number;
  /** "mse": least error; "prod": unbiased inner products. */
  readonly variant: "mse" | "prod";
  /** Draws the rotation. */
  readonly seed: number;
}

const VARIANTS = ["mse", "prod"] as const;

/** The recipe. */
export const turboquant = tensorRecipe<TurboquantOptions>({
  name: "turboquant",
  description: "TurboQuant (2025): norm, random rotation, Lloyd-Max codebook of a coordinate on the sphere",
  options: [
    { name: "bits", default: 4, description: "bits of a coordinate, 1 to 4; prod: 2 to 4" },
    {
      name: "variant",
      default: "mse",
      description: "mse: least error; prod: unbiased inner products (one bit a sketch)",
    },
    { name: "seed", default: 0, description: "draws the rotation" },
  ],
  parse(number, options) {
    const variant = readChoice(options, "variant", VARIANTS, "mse");
    return {
      bits: number("bits", 4, variant === "mse" ? 1 : 2, 4, true),
      variant,
      seed: number("seed", 0, 0, 0x7fffffff, true),
    };
  },
  stages: ["split", "norm", "rotation", "codebook", "bits"],
  chunkTokens: 1024,
  preRope: () => false,
  streams: [{ tag: "COD" }, { tag: "NRM" }, { tag: "SGN" }, { tag: "RNM" }],
  load: () => import("./turboquant_coder.ts"),
});
