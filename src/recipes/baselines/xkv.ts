/**
 * xKV (arXiv 2503.18893): keys and values of neighbouring layers share their principal directions; each prompt gets a
 * basis of its own, which is stored with it.
 *
 * @module
 */
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

/** Options of recipe xkv. */
export interface XkvOptions {
  /** Layers that share a basis. */
  readonly group: number;
  /** Rank of the keys of a group as a share of its features. */
  readonly keyShare: number;
  /** Rank of the values of a group as a share of its features. */
  readonly valueShare: number;
}

/** The recipe. */
export const xkv = tensorRecipe<XkvOptions>({
  name: "xkv",
  description: "xKV (2025): an SVD for each prompt and group of layers, keys before RoPE, factors in binary16",
  options: [
    { name: "group", default: 4, description: "layers that share a basis" },
    { name: "keyShare", default: 0.125, description: "rank of keys ÷ features of a group (the paper's 512 of 4096)" },
    {
      name: "valueShare",
      default: 0.1875,
      description: "rank of values ÷ features of a group (the paper's 768 of 4096)",
    },
  ],
  parse: (number) => ({
    group: number("group", 4, 1, 1024, true),
    keyShare: number("keyShare", 0.125, 1e-4, 1),
    valueShare: number("valueShare", 0.1875, 1e-4, 1),
  }),
  stages: ["split", "svd"],
  // A prompt is one chunk, as long as chunks may be.
  chunkTokens: 4096,
  preRope: () => true,
  streams: [{ tag: "TOK" }, { tag: "BAS" }],
  load: () => import("./xkv_coder.ts"),
});
