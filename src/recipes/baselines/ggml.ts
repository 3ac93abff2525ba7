/**
 * What llama.cpp does with `--cache-type-k q8_0` or `q4_0`: blocks of 32 values of a head, 8.5 and 4.5 bits a value.
 *
 * @module
 */
import type { BlockType } from "../../stages/quantize/ggml_blocks.ts";
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

function ggml(type: BlockType, description: string) {
  return tensorRecipe({
    name: type,
    description,
    options: [],
    parse: () => ({}),
    stages: ["split", type],
    chunkTokens: 1024,
    preRope: () => false,
    streams: [{ tag: "BLK" }],
    load: async () => (await import("./ggml_coder.ts")).ggmlModule(type),
  });
}

/** llama.cpp's q8_0. */
export const q80 = ggml("q8_0", "llama.cpp's q8_0: blocks of 32 values, int8 and a binary16 scale");

/** llama.cpp's q4_0. */
export const q40 = ggml("q4_0", "llama.cpp's q4_0: blocks of 32 values, 4 bits and a binary16 scale");
