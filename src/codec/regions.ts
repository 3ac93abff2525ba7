/**
 * How a cache's regions are numbered in the container: coded chunks count from 0, the other regions have reserved chunk
 * numbers. A region's records (streams, token ids, positions) share its number and stand together.
 *
 * @module
 */
import { KvzFormatError } from "../errors.ts";
import type { Region } from "../recipes/recipe.ts";

/** Chunk number of records about the whole file (the plan). */
export const FILE_CHUNK = 0xfffffffd;
/** Chunk number of the sinks. */
export const SINK_CHUNK = 0xfffffffe;
/** Chunk number of the recent window. */
export const WINDOW_CHUNK = 0xffffffff;

/** Tag of the recipe's plan. */
export const TAG_PLAN = "PLAN";
/** Tag of token ids, i32 [tokens]. */
export const TAG_IDS = "IDS ";
/** Tag of explicit positions, i32 [tokens]. */
export const TAG_POSITIONS = "POS ";

/** Tag of what each head keeps of a chunk's tokens (marks.ts). */
export const TAG_KEPT = "KEPT";

/** Which region a chunk number stands for. */
export function regionOf(chunk: number): Region {
  if (chunk === SINK_CHUNK) return "sinks";
  if (chunk === WINDOW_CHUNK) return "window";
  return "chunk";
}

/** A token range with its chunk number. */
export interface Unit {
  readonly chunk: number;
  readonly begin: number;
  readonly end: number;
  /** A chunk of the newest tokens, which the recipe codes more finely. */
  readonly recent?: true;
}

/** Cuts the coded range into chunks; `first` is the number of the first chunk, `begin` its first token. */
function* chunkUnits(begin: number, end: number, chunkTokens: number, first = 0): Generator<Unit> {
  for (let chunk = first, at = begin; at < end; chunk++, at += chunkTokens) {
    yield { chunk, begin: at, end: Math.min(at + chunkTokens, end) };
  }
}

/**
 * Cuts the coded range into chunks, its newest `recent` tokens into chunks of their own: as they begin where they may, the
 * chunk before them may be short.
 */
export function codedUnits(begin: number, end: number, recent: number, chunkTokens: number, first = 0): Unit[] {
  const border = Math.max(begin, end - recent);
  const units: Unit[] = [...chunkUnits(begin, border, chunkTokens, first)];
  for (const unit of chunkUnits(border, end, chunkTokens, first + units.length)) units.push({ ...unit, recent: true });
  return units;
}

/** i32 values as little-endian bytes. */
export function int32Bytes(values: Int32Array): Uint8Array {
  const out = new Uint8Array(values.length * 4);
  const view = new DataView(out.buffer);
  values.forEach((value, i) => view.setInt32(i * 4, value, true));
  return out;
}

/** Inverse of {@linkcode int32Bytes}. */
export function bytesInt32(bytes: Uint8Array): Int32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Int32Array.from({ length: bytes.length / 4 }, (_, i) => view.getInt32(i * 4, true));
}

/** The positions first, first + 1, … */
export function contiguousPositions(first: number, tokens: number): Int32Array {
  return Int32Array.from({ length: tokens }, (_, i) => first + i);
}

/** The first position when positions count up by one, else undefined. */
export function firstOfContiguous(positions: Int32Array): number | undefined {
  for (let t = 1; t < positions.length; t++) if (positions[t] !== positions[0] + t) return undefined;
  return positions.length === 0 ? 0 : positions[0];
}

/** Checks that positions rise, before anything is computed from them. */
export function requireRising(positions: Int32Array, after: number): void {
  let last = after;
  for (const position of positions) {
    if (position <= last) throw new KvzFormatError(`Cannot read file: position ${position} follows position ${last}`);
    last = position;
  }
}
