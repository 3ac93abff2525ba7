/**
 * A profile for recipes palu and recalkv: low-rank factors of a model's k_proj and v_proj, made by tools/recalkv.py.
 *
 * @module
 */
import type { ProfileBase } from "../types.ts";

/** The methods whose profiles these are. */
export type LowRankMethod = "palu" | "recalkv";

/** Heads of a layer whose keys, or values, share a latent. */
export interface LatentGroup {
  /** KV heads in the order of the factors' rows. */
  readonly heads: readonly number[];
  /** Numbers of the latent of a token. */
  readonly rank: number;
  /** From latents: binary16 bits, [heads · dim][rank]. */
  readonly decoder: Uint16Array;
  /** To latents, by least squares: the pseudoinverse of the decoder, [rank][heads · dim]. */
  readonly projector: Float32Array;
}

/** Keys before RoPE, or values, of a layer. */
export interface LatentMap {
  /** Every head stands in one of them. */
  readonly groups: readonly LatentGroup[];
  /** What the projection adds, [heads · dim] in the heads' own order; null where it has no bias. */
  readonly bias: Float32Array | null;
}

/** How a profile of these was fitted. */
export interface LowRankFit {
  /** Fraction of the cache's numbers that is left out, 1 − ranks ÷ features. */
  readonly removed: number;
  /** How ranks were shared out. */
  readonly ranks: "fisher-uniform" | "uniform";
  /** Rows of the offline calibration of values. */
  readonly rows: "tokens" | "summed" | "none";
  /** Whether a randomized Hadamard rotation is fused into the factors, for latents of few bits. */
  readonly hadamard: boolean;
}

/** Factors of all layers. */
export interface LowRankProfile<Method extends LowRankMethod = LowRankMethod> extends ProfileBase {
  /** The method that it is for. */
  readonly method: Method;
  /** How it was fitted. */
  readonly fit: LowRankFit;
  /** By layer. */
  readonly layers: readonly { readonly key: LatentMap; readonly value: LatentMap }[];
}
