/**
 * KVComp (arXiv 2509.00579): uniform quantization with steps relative to the range of a group, Huffman codes, blocks that
 * decode apart, the newest tokens as they are.
 *
 *     [chunk] relative → huffman      (all but the newest 64–127 tokens of keys, 128–255 of values)
 *             raw                     (those)
 *
 * @module
 */
import type { Kind } from "../cache/types.ts";
import { MAX_TOKENS, numberReader } from "./options.ts";
import type { Recipe } from "./recipe.ts";

/** Options of recipe kvcomp after defaults. */
export interface KvCompOptions {
  /** Step of keys and of values, relative to the range of a group. */
  readonly keyRel: number;
  readonly valueRel: number;
  /** What shares a scale among keys: a block of 64 tokens of a layer, or each channel of it. */
  readonly keyGroups: "block" | "channel";
  /** See {@linkcode codedTokens}. */
  readonly recentKeys: number;
  readonly recentValues: number;
  /** Oldest tokens kept as they are. */
  readonly sinks: number;
}

/** Tags by kind, in the order of the codec's streams. */
export const KVCOMP_TAGS: Readonly<Record<Kind, readonly string[]>> = {
  key: ["KHUF", "KGRP", "KBLK", "KVEC", "KCOD", "KTAI"],
  value: ["VHUF", "VGRP", "VBLK", "VVEC", "VCOD", "VTAI"],
};

/** The quality's turning points in the paper: keys by block 0.05, by channel 0.25, values by token 0.1. */
const KEY_REL = { block: 0.05, channel: 0.25 } as const;
const VALUE_REL = 0.1;
/** Relative steps that symbols of a byte take. */
const [LEAST, MOST] = [1 / 240, 1];

const codec = () => import("./kvcomp_codec.ts");

/** The recipe. What its lanes run is loaded when it is used. */
export const kvcomp: Recipe<KvCompOptions> = {
  name: "kvcomp",
  version: 1,
  description: "KVComp: steps relative to the range of a block of keys and a token of values, Huffman",
  options: [
    {
      name: "keyRel",
      default: null,
      description: "step of keys, relative to their range: 0.05 by block, 0.25 by channel",
    },
    {
      name: "valueRel",
      default: null,
      description: "step of values, relative to their range: 0.1 where keyRel is its default",
    },
    {
      name: "keyGroups",
      default: "block",
      description: "what shares a scale of keys: block (64 tokens of a layer) or channel of it",
    },
    { name: "recentKeys", default: 128, description: "newest tokens whose keys stay raw: 64 less to 1 less of these" },
    {
      name: "recentValues",
      default: 256,
      description: "newest tokens whose values stay raw: 128 less to 1 less of these",
    },
    { name: "sinks", default: 0, description: "oldest tokens kept as they are; none in the paper" },
  ],
  needs: [],
  stages: ["relative", "huffman"],
  groups: [["key"], ["value"]],
  chunkTokens: 2048,
  knob: { name: "keyRel", min: LEAST, max: 0.5, start: (ratio) => Math.min(0.5, ratio * ratio / 500) },
  ratioOfFile: false,

  parseOptions({ keyGroups = "block", ...options }) {
    if (keyGroups !== "block" && keyGroups !== "channel") {
      throw new RangeError(`Cannot use option "keyGroups": it is ${keyGroups}, expected block or channel`);
    }
    const number = numberReader(this, options);
    const keyRel = number("keyRel", KEY_REL[keyGroups], LEAST, MOST);
    const scaled = Math.min(MOST, Math.max(LEAST, keyRel * VALUE_REL / KEY_REL[keyGroups]));
    return {
      keyRel,
      valueRel: number("valueRel", scaled, LEAST, MOST),
      keyGroups,
      recentKeys: number("recentKeys", 128, 64, MAX_TOKENS, true),
      recentValues: number("recentValues", 256, 128, MAX_TOKENS, true),
      sinks: number("sinks", 0, 0, MAX_TOKENS, true),
    };
  },

  regions: ({ sinks }) => ({ sinks, window: 0 }),

  planSetup: async (_, facts, options) => (await codec()).planSetup(facts, options),

  loadSetup: async (_, facts, plan, append) => (await codec()).loadSetup(facts, plan, append ?? null),

  tags: (region, [kind]) => region === "chunk" ? KVCOMP_TAGS[kind] : [kind === "key" ? "KRAW" : "VRAW"],

  open: async (backend, setup) => (await codec()).openCodec(backend, setup),
};
