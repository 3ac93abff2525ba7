/**
 * PackKV (IPDPS 2026): uniform quantization with steps relative to a token's range, tokens of a block reordered, packs of
 * them with as many bits as they need.
 *
 *     [chunk]  relative → repack → packs
 *     [window] source elements: the newest 128 to 191 tokens
 *
 * @module
 */
import { KvzUnsupportedError } from "../../errors.ts";
import type { Repacking } from "../../stages/packkv/repack.ts";
import { readChoice } from "../options.ts";
import type { Recipe, SetupFacts } from "../recipe.ts";
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

/** Options of recipe packkv after defaults. */
export interface PackKvOptions {
  /** Step of keys and of values, relative to the range of a token of a layer. */
  readonly keyRel: number;
  readonly valueRel: number;
  /** How tokens of a block are ordered. */
  readonly repack: Repacking;
  /** Tokens of a pack. */
  readonly packTokens: number;
  /** Whether a block's tokens come back in their order, which is stored, or in that of the packs. */
  readonly order: "kept" | "free";
}

/** Tokens of a block, within which tokens change places. */
export const PACKKV_BLOCK = 64;
/** Newest tokens that are raw at most, but for one. */
const BUFFER = 192;
const [LEAST, MOST] = [1 / 240, 1];

const framed = tensorRecipe<PackKvOptions>({
  name: "packkv",
  description:
    "PackKV: steps relative to a token's range, tokens reordered within blocks, packs of as many bits as needed",
  options: [
    { name: "keyRel", default: 0.1, description: "step of keys, relative to the range of a token of a layer" },
    { name: "valueRel", default: null, description: "step of values; default: keyRel" },
    { name: "repack", default: "greedy", description: "order of the tokens of a block of 64: greedy, median or none" },
    { name: "packTokens", default: 16, description: "tokens of a pack: 4, 8 or 16" },
    {
      name: "order",
      default: "kept",
      description: "kept: tokens come back in their order, 6 bits a token and layer; free: in that of the packs",
    },
  ],
  parse: (number, options) => {
    const keyRel = number("keyRel", 0.1, LEAST, MOST);
    return {
      keyRel,
      valueRel: number("valueRel", keyRel, LEAST, MOST),
      repack: readChoice(options, "repack", ["greedy", "median", "none"], "greedy"),
      packTokens: readChoice(options, "packTokens", [4, 8, 16], 16),
      order: readChoice(options, "order", ["kept", "free"], "kept"),
    };
  },
  stages: ["relative", "repack", "packs"],
  chunkTokens: 1024,
  preRope: () => false,
  together: true,
  streams: [{ tag: "GRP" }, { tag: "BIT" }, { tag: "MIN" }, { tag: "COD" }, { tag: "ORD" }],
  knob: { name: "keyRel", min: LEAST, max: 0.9, start: (ratio) => Math.min(0.9, ratio * ratio / 300) },
  load: async () => await import("./packkv_coder.ts"),
});

/** Attention does not see the order of tokens whose keys carry their positions; of others it is all there is. */
function requireRope({ model }: SetupFacts, order: "kept" | "free"): void {
  if (order === "free" && model.rope === null) {
    throw new KvzUnsupportedError(
      'Cannot use recipe packkv with order "free": keys are not rotated, so their order is their only position; keep it',
    );
  }
}

/** The recipe. What its lanes run is loaded when it is used. */
export const packKv: Recipe<PackKvOptions & { sinks: number }> = {
  ...framed,
  options: framed.options.filter(({ name }) => name !== "window"),

  parseOptions(options) {
    const { window: _, ...own } = framed.parseOptions.call(this, options);
    return own;
  },

  /** What `cut_tensor` of the authors leaves: 128 tokens, and those that fill no block. */
  regions({ sinks }, tokens) {
    const rest = Math.max(0, tokens - sinks);
    const blocks = Math.max(0, Math.floor((rest + PACKKV_BLOCK - rest % PACKKV_BLOCK - BUFFER) / PACKKV_BLOCK));
    return { sinks, window: rest - blocks * PACKKV_BLOCK };
  },

  planSetup(profile, facts, options) {
    requireRope(facts, options.order);
    return framed.planSetup(profile, facts, options);
  },
};
