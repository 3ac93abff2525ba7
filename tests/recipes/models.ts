/** Small models with heads as methods of blocks and rotations want them. */
import type { ModelSpec } from "../../src/cache/types.ts";

/** Heads of 64 and 32 elements. */
export const BLOCK_MODEL: ModelSpec = {
  architecture: "llama",
  id: "block-test-model",
  layers: 2,
  kvHeads: 2,
  keyDim: 64,
  valueDim: 32,
  rope: { theta: 10000, dim: 64, pairing: "half-split" },
};
