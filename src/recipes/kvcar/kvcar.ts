/**
 * KV-CAR (arXiv 2512.06727): an autoencoder for the keys and one for the values of chosen layers, trained through the
 * model, and heads that reuse those of an earlier layer.
 *
 *     [chunk] (undo RoPE) → reuse → autoencoder → float16 or int8 (→ rANS, no part of KV-CAR)
 *
 * @module
 */
import { readChoice } from "../options.ts";
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

/** Options of recipe kvcar. */
export interface KvcarOptions {
  /** Element type of latents. */
  readonly latents: "f16" | "int8";
  /** Coder of the latents; absent: none. */
  readonly entropy?: "rans";
}

/** The recipe. */
export const kvcar = tensorRecipe<KvcarOptions>({
  name: "kvcar",
  description: "KV-CAR: trained autoencoders of keys and values by layer, and heads reused across layers",
  options: [
    { name: "latents", default: "f16", description: "element type of latents: f16 or int8 (Eq. 4)" },
    { name: "entropy", default: "none", description: "coder of latents: none, or rans (no part of KV-CAR)" },
  ],
  parse: (_, options) => ({
    latents: readChoice(options, "latents", ["f16", "int8"], "f16"),
    ...(readChoice(options, "entropy", ["none", "rans"], "none") === "rans" ? { entropy: "rans" } as const : {}),
  }),
  profile: "kvcar",
  stages: ["split", "reuse", "autoencoder", "latents"],
  chunkTokens: 256,
  preRope: (_, profile) => profile?.method === "kvcar" && profile.preRope,
  streams: [{ tag: "LAT" }, { tag: "SCL" }, { tag: "RAW" }],
  load: () => import("./kvcar_coder.ts"),
});
