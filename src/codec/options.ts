/**
 * Options and results of the public calls.
 *
 * @module
 */
import type { DType } from "../cache/types.ts";
import type { ByteSource } from "../container/bytes.ts";
import type { JsonObject } from "../container/canonical_json.ts";

/** Where progress stands. */
export interface Progress {
  /** Tokens done so far. */
  readonly done: number;
  /** Tokens in all; undefined while a pipe has not told. */
  readonly total?: number;
}

/** Options that every call takes. */
export interface CallOptions {
  /** Called as chunks are done. */
  readonly onProgress?: (progress: Progress) => void;
  /** Aborts between chunks; the call rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Options of {@linkcode Codec.compress}. Recipe options stand beside the general ones. */
export interface CompressOptions extends CallOptions {
  /** Recipe name. Default: that of the profile; "lossless" without one. */
  readonly recipe?: string;
  /** Target ratio in the recipe's sense (kvz, kvz-free: of the whole file; kvtc: before DEFLATE, default 16). */
  readonly ratio?: number;
  /** Ratio of the whole file to be reached within 1 %, instead of `ratio`. */
  readonly fileRatio?: number;
  /** Target ratio of the keys alone. */
  readonly keyRatio?: number;
  /** Target ratio of the values alone. */
  readonly valueRatio?: number;
  /** Oldest tokens kept in FP8; default 1 in kvz, 4 in kvtc. In streamingllm kept as they are, default 4. */
  readonly sinks?: number;
  /** Newest tokens kept bit-exact; default 0 in kvz, 128 in kvtc. In snapkv and pyramidkv their queries choose; default 64. */
  readonly window?: number;
  /**
   * Newest tokens that recipe kvz codes with a finer step, at most an eighth of the cache, default 128; that think keeps
   * whole keys of, default 32.
   */
  readonly recent?: number;
  /** The step of kvz's newest tokens as a share of the others', 1/16 to 1; default 0.5. */
  readonly recentStep?: number;
  /** Quality of recipe kvz and of code kvz of recipes that evict, default "balanced". */
  readonly quality?: "small" | "balanced" | "high";
  /** Largest predicted KL of recipe kvz in nats, instead of a quality. */
  readonly maxKl?: number;
  /** Quantization step of recipe kvz in the profile's units, of kvz-free in units of a layer's spread. */
  readonly step?: number;
  /** Weight of a bit against a squared error of a step in recipe kvz, default 0.3. */
  readonly lambda?: number;
  /**
   * Coder of kvtc's codes and scales, "deflate" (default) or "rans", and of kvcar's latents, "none" (default) or "rans".
   * "rans" is no part of either method.
   */
  readonly entropy?: "none" | "deflate" | "rans";
  /** Step of keys relative to their range, recipes kvcomp and packkv. */
  readonly keyRel?: number;
  /** Step of values relative to their range, recipes kvcomp and packkv. */
  readonly valueRel?: number;
  /** What shares a scale of keys in recipe kvcomp, default "block". */
  readonly keyGroups?: "block" | "channel";
  /** Newest tokens whose keys stay raw in recipe kvcomp, all but up to a block of 64; default 128. */
  readonly recentKeys?: number;
  /** Newest tokens whose values stay raw in recipe kvcomp, all but up to a block of 128; default 256. */
  readonly recentValues?: number;
  /** How recipe packkv orders the tokens of a block, default "greedy". */
  readonly repack?: "greedy" | "median" | "none";
  /** Tokens of a pack of recipe packkv, default 16. */
  readonly packTokens?: 4 | 8 | 16;
  /** Whether tokens come back in their order in recipe packkv, default "kept". */
  readonly order?: "kept" | "free";
  /** Bits of a code: kivi 2, 4 or 8; quarot 2 to 8; turboquant 1 to 4; kvquant 2 to 4; palu, recalkv 2, 3, 4, 8 or 16. */
  readonly bits?: number;
  /** Rank of xkv's keys as a share of a group's features, default 1/8. */
  readonly keyShare?: number;
  /** Rank of xkv's values as a share of a group's features, default 3/16. */
  readonly valueShare?: number;
  /** Tokens or channels of a group of kivi; layers of a group of xkv. */
  readonly group?: number;
  /** Newest tokens that kivi keeps as they are, default 128. */
  readonly residual?: number;
  /** Bins of cachegen: 1 fewest, 2 LMCache's (default), 3 most. */
  readonly level?: number;
  /** turboquant's: least error, or unbiased inner products. */
  readonly variant?: "mse" | "prod";
  /** Draws turboquant's rotation, default 0. */
  readonly seed?: number;
  /** Percent of the elements that kvquant keeps beside its codes: 0, 0.1, 0.5 or 1 (default). */
  readonly outliers?: number;
  /** kvquant's Q-Norm; default "on" at 2 bits, "off" at 3 and 4. */
  readonly qnorm?: "on" | "off";
  /** Tokens that a head keeps, in recipes that evict. */
  readonly capacity?: number;
  /** Share of the tokens that a head keeps, instead of a capacity. */
  readonly keep?: number;
  /** Tokens over which snapkv and pyramidkv pool scores, odd, default 5. */
  readonly kernel?: number;
  /** How they pool, default "avg". */
  readonly pooling?: "avg" | "max" | "none";
  /** Steepness of pyramidkv's budgets, default 20. */
  readonly beta?: number;
  /** Whose formula of pyramidkv's budgets, default "authors". */
  readonly budgets?: "authors" | "kvpress";
  /** Share of the key channels that think leaves out, default 0.4. */
  readonly prune?: number;
  /** Last queries that choose think's channels, default 32. */
  readonly queries?: number;
  /** What chooses tokens before think chooses channels, default "none". */
  readonly after?: "none" | "snapkv";
  /** Mean attention, in units of 1 / tokens, below which recipe diffkv keeps a token in low precision; default 1. */
  readonly alphaHigh?: number;
  /** The same below which it prunes a token; default 0.02. */
  readonly alphaLow?: number;
  /** Newest tokens that recipe diffkv keeps in high precision, default 64. */
  readonly buffer?: number;
  /** High precision of recipe diffkv, default "k8v4". */
  readonly high?: "k8v8" | "k8v4g2" | "k8v4" | "k8v2" | "k4v4" | "k4v2g4" | "k4v2" | "k4v1";
  /** Low precision of recipe diffkv, default "k4v2". */
  readonly low?: "k8v8" | "k8v4g2" | "k8v4" | "k8v2" | "k4v4" | "k4v2g4" | "k4v2" | "k4v1";
  /** Element type of kvcar's latents, default "f16". */
  readonly latents?: "f16" | "int8";
  /** Shared layers of recipe kvsharer with their sources, "27:3+28:5" (`kvz sharing`). */
  readonly map?: string;
  /** How recipe kvsharer stores the other layers, default "raw"; "kvtc" and "kvz" need a profile made with the map. */
  readonly inner?: "raw" | "q8_0" | "q4_0" | "kvtc" | "kvz";
  /** How recipes that evict code what is kept: "raw" (default), "kivi", "quarot", "turboquant", "q8_0", "q4_0", "kvz". */
  readonly code?: string;
  /** Whether to store the token ids where the cache has them, default true. They are the prompt: leave them out of files that others see. */
  readonly tokenIds?: boolean;
  /** JSON to keep with the cache. */
  readonly user?: JsonObject;
}

/** Options of {@linkcode Codec.decompress}. */
export interface DecompressOptions extends CallOptions {
  /** Restore only the first n tokens. */
  readonly tokens?: number;
  /** Restore only layers [begin, end). */
  readonly layers?: readonly [begin: number, end: number];
  /** Position of the first token in the restored cache: keys are rotated there. Default: as stored. */
  readonly firstPosition?: number;
  /** Element type of the restored cache. Default: as stored. */
  readonly dtype?: DType;
  /** Most bytes the restored cache may have, default 4 GiB. */
  readonly maxBytes?: number;
}

/** Default of `maxBytes`. */
export const DEFAULT_MAX_BYTES = 2 ** 32;

/** What can be opened: bytes in memory, a Blob or File, or anything with ranged reads. */
export type KvzInput = Uint8Array | Blob | ByteSource;

/** What was done and how fast. */
export interface WorkReport {
  /** Tokens worked on. */
  readonly tokens: number;
  /** Wall time of the work on tokens, reading the source and writing the result included. */
  readonly seconds: number;
  /** Wall time before it: computing the plan (once for each ratio) and loading the basis into the lanes. */
  readonly secondsSetup: number;
  /** tokens ÷ seconds. */
  readonly tokensPerSecond: number;
  /** Backend in use. */
  readonly backend: string;
  /** Its build. */
  readonly build: string;
  /** Lanes in use. */
  readonly threads: number;
  /** Why `backend` stands in for a GPU that is there but failed; absent otherwise. */
  readonly fallback?: string;
  /** Steps that WebAssembly computed beside a GPU that lacks their kernels or gives other bits; absent: none. */
  readonly host?: readonly string[];
}

/** Result figures of compressing. */
export interface CompressReport extends WorkReport {
  /** Recipe name. */
  readonly recipe: string;
  /** Bytes of the cache at 16 bits an element. */
  readonly bytesIn: number;
  /** Bytes of the file. */
  readonly bytesOut: number;
  /** The recipe's target; null for recipes without one. */
  readonly targetRatio: number | null;
  /**
   * As the method's paper counts: for KVTC and most, 16-bit bytes of the tokens before the window ÷ bytes of their streams
   * (sinks, codes, scales; no header); null when no token lies before the window.
   */
  readonly paperRatio: number | null;
  /** bytesIn ÷ bytesOut. */
  readonly fileRatio: number;
  /** Stored payload bytes by record tag. */
  readonly streams: Readonly<Record<string, number>>;
}

/** Result figures of decompressing. */
export type DecompressReport = WorkReport;
