/**
 * QuaRot's KV cache (arXiv 2404.00456): a Hadamard rotation of every head, then 4 bits a value.
 *
 * @module
 */
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

/** Options of recipe quarot. */
export interface QuarotOptions {
  /** Bits of a code. */
  readonly bits: number;
}

/** The recipe. */
export const quarot = tensorRecipe<QuarotOptions>({
  name: "quarot",
  description: "QuaRot (NeurIPS 2024): Hadamard rotation of every head after RoPE, 4 bits with scale and zero a head",
  options: [{ name: "bits", default: 4, description: "bits of a code, 2 to 8" }],
  parse: (number) => ({ bits: number("bits", 4, 2, 8, true) }),
  stages: ["split", "hadamard", "uniform", "bits"],
  chunkTokens: 1024,
  preRope: () => false,
  streams: [{ tag: "COD" }, { tag: "PAR" }],
  load: () => import("./quarot_coder.ts"),
});
