/**
 * CacheGen (arXiv 2310.07240) as LMCache's code has it: bins by layer, absmax by token, entropy coding by layer and
 * channel.
 *
 * @module
 */
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

/** Options of recipe cachegen. */
export interface CachegenOptions {
  /** 1: smallest, 3: best. */
  readonly level: number;
}

/** The recipe. */
export const cachegen = tensorRecipe<CachegenOptions>({
  name: "cachegen",
  description: "CacheGen (SIGCOMM 2024) as in LMCache: bins by layer, absmax by token, entropy coding by channel",
  options: [{
    name: "level",
    default: 2,
    description: "bins of keys, values: 1: 16, 16, 12 and 16, 12; 2: LMCache's 32, 16, 16 and 32, 16; 3: 32",
  }],
  parse: (number) => ({ level: number("level", 2, 1, 3, true) }),
  stages: ["split", "absmax", "row classes", "rans"],
  chunkTokens: 256,
  preRope: () => false,
  streams: [{ tag: "MAX" }, { tag: "SYM" }],
  load: () => import("./cachegen_coder.ts"),
});
