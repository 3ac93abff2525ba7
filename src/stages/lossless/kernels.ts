/**
 * The loops of the lossless coder, as an interface: plain TypeScript defines them (reference.ts), WebAssembly runs them.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import type { RowCodes, RowModel } from "./codes.ts";
import type { LosslessShape, RowGroup } from "./shape.ts";

/** The parts of a chunk's elements. */
export interface ElementParts {
  /**
   * Symbols tell the exponents base + 1 … base + 31; what {@linkcode LosslessKernels.split} chooses ends with the greatest
   * finite one. 0 for f16, whose symbols tell all exponents, 0 included.
   */
  readonly base: number;
  /** Sign (bit 7), exponent less base (bits 6–2, 0 for an escape), two fraction bits; [rows][tokens]. */
  readonly symbols: Uint8Array;
  /** What symbols leave of the fractions, as {@linkcode planeLengths} says. */
  readonly planes: readonly Uint8Array[];
  /** Exponents outside the symbols' range in the order of the elements; none for f16. */
  readonly escapes: Uint8Array;
  /** How many escapes each block has. */
  readonly escapeCounts: Uint32Array;
}

/** Loops over a chunk. Symbols, escapes and models that these return may be views which end with the next call. */
export interface LosslessKernels {
  /** Elements [tokens][dim] of each block → parts. `room`: where planes may go, one after the other. */
  split(
    heads: readonly Uint8Array[],
    shape: LosslessShape,
    tokens: number,
    rows: Int32Array,
    room?: Uint8Array,
  ): ElementParts;

  /**
   * Inverse of {@linkcode split} for as many blocks from `begin` on as there are `heads`, into these; parts are those of all
   * blocks.
   *
   * @throws {KvzFormatError} when a block has not as many escapes as its symbols say; heads before it are written
   */
  join(
    parts: ElementParts,
    shape: LosslessShape,
    tokens: number,
    rows: Int32Array,
    begin: number,
    heads: readonly Uint8Array[],
  ): void;

  /** Sums over {@linkcode sampledTokens} of every row of the groups, into `sums` [rows][3]; see RowSums. */
  measure(symbols: Uint8Array, tokens: number, groups: readonly RowGroup[], sums: Float32Array): void;

  /** Codes of every row of the groups from what {@linkcode measure} summed, into `codes`; as chooseCodes does. */
  choose(sums: Float32Array, tokens: number, groups: readonly RowGroup[], codes: RowCodes): void;

  /** Classes and maps of rows from their codes, as rowModel makes them; every group has tokens. */
  model(codes: RowCodes, tokens: number, groups: readonly RowGroup[]): RowModel;

  /**
   * Maps the symbols of the groups' rows in place and counts them by class, adding to `counts` [64][256]: those that
   * isCounted names; of others that occur one each.
   */
  normalize(
    symbols: Uint8Array,
    tokens: number,
    groups: readonly RowGroup[],
    model: RowModel,
    counts: Uint32Array,
  ): void;

  /** Inverse of {@linkcode normalize}: the symbols, in place or elsewhere. */
  denormalize(symbols: Uint8Array, tokens: number, groups: readonly RowGroup[], model: RowModel): Uint8Array;
}

/**
 * Bytes of each plane. f16: the low bytes, [blocks][tokens · dim]. bf16: the lower five fraction bits, for each block
 * four of every element, the first in the low half of a byte, then the fifth of every element, the first in bit 0. f32:
 * the same, then fraction bits 8–15, then 0–7, [blocks][tokens · dim] each.
 */
export function planeLengths({ blocks, dim, dtype }: LosslessShape, tokens: number): number[] {
  const n = tokens * dim;
  if (dtype === "f16") return [blocks * n];
  const five = blocks * fiveBitBytes(n);
  return dtype === "bf16" ? [five] : [five, blocks * n, blocks * n];
}

/** Bytes of n five-bit remainders of a block. */
export function fiveBitBytes(n: number): number {
  return ((n + 1) >> 1) + ((n + 7) >> 3);
}

/** Tokens from one group of four sampled ones to the next: at least 64 tokens are sampled where there are as many. */
export function sampleStep(tokens: number): number {
  return tokens >= 512 ? 32 : tokens >= 256 ? 16 : tokens >= 128 ? 8 : 4;
}

/** Tokens that {@linkcode LosslessKernels.measure} sums over: four in a row at every step, all when fewer than four. */
export function sampledTokens(tokens: number): number[] {
  if (tokens < 4) return Array.from({ length: tokens }, (_, t) => t);
  const step = sampleStep(tokens);
  const sampled: number[] = [];
  for (let t = step >> 1; t + 4 <= tokens; t += step) sampled.push(t, t + 1, t + 2, t + 3);
  // Four to seven tokens: the first four.
  return sampled.length > 0 ? sampled : [0, 1, 2, 3];
}

/** A block whose symbols do not call for as many escapes as it has. */
export function wrongEscapes(block: number): KvzFormatError {
  return new KvzFormatError(
    `Cannot decode elements: the exponents of block ${block} are not as many as its symbols need`,
  );
}

/** Base of the symbols where `top` is the greatest exponent of a finite element of bf16 or f32. */
export function baseBelow(top: number): number {
  return Math.max(0, top - 31);
}
