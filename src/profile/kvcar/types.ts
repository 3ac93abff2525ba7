/**
 * What training yields for recipe kvcar (KV-CAR, arXiv 2512.06727): an autoencoder for the keys and one for the values of
 * chosen layers, and a map of heads that reuse those of an earlier layer.
 *
 * @module
 */
import type { Kind } from "../../cache/types.ts";
import type { ProfileBase } from "../types.ts";

/**
 * The autoencoder of one layer's keys or values: Linear → LeakyReLU → Linear both ways. Batch normalization, which
 * training has before the LeakyReLU, is folded into the Linear before it.
 */
export interface Autoencoder {
  /** The layer that it is for. */
  readonly layer: number;
  /** Elements of a token's row: the heads that the layer stores, ascending, dim each. */
  readonly inputs: number;
  /** Width between the two Linears, h. */
  readonly hidden: number;
  /** Elements of a latent, d_z. */
  readonly latent: number;
  /**
   * Row-major weights [outputs][inputs], each before its bias: encoder W1 [hidden][inputs], b1, W2 [latent][hidden], b2;
   * decoder W3 [hidden][latent], b3, W4 [inputs][hidden], b4.
   */
  readonly parameters: Float32Array;
}

/** What there is for keys or for values. */
export interface KvcarKind {
  /**
   * [layers · kvHeads]: the slot (layer · kvHeads + head) whose elements a slot has. A stored slot has its own number; the
   * others name a stored slot of an earlier layer: chains are resolved.
   */
  readonly sources: Int32Array;
  /** By rising layer; layers without one are stored as they are. */
  readonly autoencoders: readonly Autoencoder[];
}

/** A profile for recipe kvcar. */
export interface KvcarProfile extends ProfileBase {
  /** The method that it is for. */
  readonly method: "kvcar";
  /** Whether keys were taken before RoPE. */
  readonly preRope: boolean;
  /** Slope of the LeakyReLU for negative numbers. */
  readonly slope: number;
  /** Keys and values. */
  readonly kinds: Readonly<Record<Kind, KvcarKind>>;
}

/** Numbers in {@linkcode Autoencoder.parameters}. */
export function parameterCount({ inputs, hidden, latent }: Omit<Autoencoder, "layer" | "parameters">): number {
  return hidden * (inputs + 1) + latent * (hidden + 1) + hidden * (latent + 1) + inputs * (hidden + 1);
}

/** Heads that a layer stores itself, ascending. */
export function storedHeads(sources: ArrayLike<number>, layer: number, kvHeads: number): number[] {
  const own: number[] = [];
  for (let head = 0; head < kvHeads; head++) {
    const slot = layer * kvHeads + head;
    if (sources[slot] === slot) own.push(head);
  }
  return own;
}
