/**
 * How the lossless coder sees a cache: which element is which row of symbols, and at which phase of its rotation every
 * token stands.
 *
 * A row is one channel (layer, head, element) over the tokens of a chunk. RoPE turns the pair (i, i + dim / 2) of a key
 * by a fixed angle for every position, so a channel with a mean of its own before RoPE has one that swings after it.
 * Sixteen phases of the turn, told by whole-number arithmetic, are enough to follow the swing without undoing RoPE,
 * which would not be reversible bit by bit.
 *
 * @module
 */
import { ropeFrequencies } from "../../cache/rope.ts";
import { BYTES_PER_ELEMENT, type DType, type RopeSpec } from "../../cache/types.ts";

/** Phases that a turn is divided into. */
export const PHASES = 16;

/** Geometry of what is coded: one kind of a cache. */
export interface LosslessShape {
  /** Layers · heads. */
  readonly blocks: number;
  /** Elements of a head. */
  readonly dim: number;
  readonly dtype: DType;
  /** Turn of each rotated pair a position, in 2^-32 of a full turn; empty where nothing is rotated. */
  readonly turns: Uint32Array;
}

/** Rows of a shape. */
export function rowCount({ blocks, dim }: LosslessShape): number {
  return blocks * dim;
}

/** Bytes of a chunk's elements. */
export function elementBytes({ blocks, dim, dtype }: LosslessShape, tokens: number): number {
  return blocks * dim * tokens * BYTES_PER_ELEMENT[dtype];
}

/** A chunk's elements [blocks][tokens][dim] as one view of each block. */
export function headsOf(data: Uint8Array, blocks: number): Uint8Array[] {
  const length = data.length / blocks;
  return Array.from({ length: blocks }, (_, i) => data.subarray(i * length, (i + 1) * length));
}

/** Turn of each pair a position in 2^-32 of a full turn, as a file carries it: encoder and decoder need the same. */
export function ropeTurns(rope: RopeSpec): Uint32Array {
  return Uint32Array.from(ropeFrequencies(rope), (f) => Math.round(f / (2 * Math.PI) * 2 ** 32) % 2 ** 32);
}

/**
 * Row of each feature [blocks · dim]. Rotated channels come first, pair after pair: the pair's two channels of block 0,
 * of block 1, …; then the others, block after block. So rows of one rotation stand together.
 */
export function rowOrder({ blocks, dim, turns }: LosslessShape): Int32Array {
  const pairs = turns.length;
  const rows = new Int32Array(blocks * dim);
  for (let block = 0, at = 0; block < blocks; block++) {
    for (let i = 0; i < dim; i++, at++) {
      rows[at] = i < 2 * pairs
        ? 2 * ((i % pairs) * blocks + block) + (i < pairs ? 0 : 1)
        : 2 * pairs * blocks + block * (dim - 2 * pairs) + i - 2 * pairs;
    }
  }
  return rows;
}

/** Rows that share the phases of their tokens. */
export interface RowGroup {
  readonly begin: number;
  readonly end: number;
  /** Phase of each token; null for rows that do not turn. */
  readonly phases: Uint8Array | null;
}

/** The groups of rows, in order; neighbours with equal phases are one. */
export function rowGroups(shape: LosslessShape, positions: Int32Array): RowGroup[] {
  const { blocks, turns } = shape;
  const groups: RowGroup[] = [];
  for (let pair = 0; pair < turns.length; pair++) {
    const phases = new Uint8Array(positions.length);
    const last = groups.at(-1);
    let same = last !== undefined;
    for (let t = 0; t < phases.length; t++) {
      phases[t] = Math.imul(positions[t], turns[pair]) >>> 28;
      same &&= last!.phases![t] === phases[t];
    }
    const [begin, end] = [2 * blocks * pair, 2 * blocks * (pair + 1)];
    if (same) groups[groups.length - 1] = { ...last!, end };
    else groups.push({ begin, end, phases });
  }
  const turned = 2 * blocks * turns.length;
  if (turned < rowCount(shape)) groups.push({ begin: turned, end: rowCount(shape), phases: null });
  return groups;
}

/** Whose values each phase takes: its own where it occurs, else those of the first that does. Some phase must. */
export function phasesMet(phases: Uint8Array): Uint8Array {
  const met = new Uint8Array(PHASES).fill(PHASES);
  for (let t = 0; t < phases.length; t++) met[phases[t]] = phases[t];
  const first = met.find((phase) => phase < PHASES)!;
  return met.map((phase) => phase < PHASES ? phase : first);
}
