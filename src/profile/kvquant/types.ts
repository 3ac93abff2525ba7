/**
 * A profile for recipe kvquant (KVQuant, arXiv 2401.18079): thresholds of key channels and codebooks of layers, for all
 * widths of codes and shares of outliers that the recipe offers.
 *
 * @module
 */
import { type Kind, KINDS, type ModelSpec } from "../../cache/types.ts";
import type { Sensitivity } from "../kvz/types.ts";
import type { ProfileBase } from "../types.ts";

/** Bits of a code. */
export const KVQUANT_BITS = [2, 3, 4] as const;
/** Shares of elements kept beside the codes, in percent; 0: codes alone, from the least to the greatest element. */
export const KVQUANT_OUTLIERS = [0, 0.1, 0.5, 1] as const;

/** Entries of the codebooks of a layer and kind: of all widths one after another. */
export const KVQUANT_ENTRIES = KVQUANT_BITS.reduce((sum, bits) => sum + (1 << bits), 0);

/** Thresholds and codebooks of a model. */
export interface KvquantProfile extends ProfileBase {
  /** The method that it is for. */
  readonly method: "kvquant";
  /** What weighted the codebooks. */
  readonly sensitivity: Sensitivity;
  /** Low and high of every key channel before RoPE: [outliers][layers][kvHeads · keyDim][2]. */
  readonly thresholds: Float32Array;
  /**
   * Entries by rising value, for elements normalized to [−1, 1] by their thresholds:
   * [outliers][keys, values][layers][4 of 2 bits, 8 of 3, 16 of 4].
   */
  readonly codebooks: Float32Array;
  /** Scale and offset that Q-Norm gives the entries of a codebook: [outliers][keys, values][layers][bits][2]. */
  readonly norms: Float32Array;
}

/** Numbers in the arrays of a profile. */
export function kvquantLengths(
  { layers, kvHeads, keyDim }: ModelSpec,
): { readonly thresholds: number; readonly codebooks: number; readonly norms: number } {
  const sets = KVQUANT_OUTLIERS.length;
  const books = sets * KINDS.length * layers;
  return {
    thresholds: sets * layers * kvHeads * keyDim * 2,
    codebooks: books * KVQUANT_ENTRIES,
    norms: books * KVQUANT_BITS.length * 2,
  };
}

/** Where thresholds of a layer's keys begin: low and high of its first channel. */
export function thresholdsAt({ kvHeads, keyDim, layers }: ModelSpec, set: number, layer: number): number {
  return (set * layers + layer) * kvHeads * keyDim * 2;
}

/** Where a codebook and its scale and offset begin. */
export function codebookAt(
  { layers }: ModelSpec,
  set: number,
  kind: Kind,
  layer: number,
  bits: number,
): { readonly entries: number; readonly norm: number } {
  const book = (set * KINDS.length + KINDS.indexOf(kind)) * layers + layer;
  const width = (KVQUANT_BITS as readonly number[]).indexOf(bits);
  const before = KVQUANT_BITS.slice(0, width).reduce((sum, b) => sum + (1 << b), 0);
  return { entries: book * KVQUANT_ENTRIES + before, norm: (book * KVQUANT_BITS.length + width) * 2 };
}
