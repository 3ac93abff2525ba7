/**
 * FP8: every element as E4M3 with a scale for each layer and head, the simplest cache quantization that GPUs have
 * instructions for.
 *
 * @module
 */
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

/** The recipe. */
export const fp8 = tensorRecipe<object>({
  name: "fp8",
  description: "FP8 E4M3 with a binary16 scale for each layer, head and chunk: 8 bits a value",
  options: [],
  parse: () => ({}),
  stages: ["split", "fp8"],
  chunkTokens: 1024,
  preRope: () => false,
  streams: [{ tag: "COD" }, { tag: "SCL" }],
  load: () => import("./fp8_coder.ts"),
});
