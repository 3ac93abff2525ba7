/**
 * Side information, prefixes and the status of chunks, between the host and a GPU's buffers.
 *
 * @module
 */
import {
  levelStride,
  type SideBuffers,
  sideWord,
  TRELLIS_STATUS,
  type TrellisBatch,
} from "../../../backend/gpu/trellis.ts";
import { badEscape, surplusEscapes, symbolAboveLimit } from "../../entropy/escapes.ts";
import type { Scratch } from "../../scratch.ts";
import { type CodedPrefix, reconstructionTooLarge } from "./reference.ts";
import type { TrellisSide } from "./side.ts";
import { NEXT_STATE, quantizerOf } from "./states.ts";

/** What the words and offsets of a chunk are made of. */
export type ChunkSide = Omit<TrellisSide, "s">;

/**
 * Side information of a batch's chunks; tokens that a chunk does not have yet have word 0.
 *
 * @param models index of each chunk's model
 */
export function uploadSide(
  scratch: Scratch,
  batch: TrellisBatch,
  sides: readonly ChunkSide[],
  models: readonly number[],
): SideBuffers {
  const { chunks, components, tokens } = batch;
  const words = new Uint32Array(chunks * tokens);
  const offsets = new Int8Array((chunks * components + 3) & ~3);
  for (const [i, side] of sides.entries()) {
    const { refs, modes, energies } = side;
    for (let t = 0; t < refs.length; t++) words[i * tokens + t] = sideWord(refs[t], modes[t], energies[t]);
    offsets.set(side.offsets, i * components);
  }
  return {
    models: scratch.upload(Uint32Array.from(models)),
    words: scratch.upload(words),
    offsets: scratch.upload(offsets),
  };
}

/** Inverse, for one chunk. */
export function sideOf(words: Uint32Array, offsets: Int8Array): ChunkSide {
  return {
    refs: Int16Array.from(words, (word) => word & 0xffff),
    modes: Uint8Array.from(words, (word) => word >> 16),
    energies: Uint8Array.from(words, (word) => word >> 24),
    offsets,
  };
}

/** A prefix's levels, as 2 · level + quantizer, and its reconstruction, token-major with room for `tokens` tokens. */
export function prefixRows(
  { levels, reconstruction, refs, offsets }: CodedPrefix,
  tokens: number,
): { levels: Int16Array; reconstruction: Int16Array } {
  const [first, components] = [refs.length, offsets.length];
  const stride = levelStride(components);
  const out = { levels: new Int16Array(tokens * stride), reconstruction: new Int16Array(tokens * stride) };
  for (let t = 0; t < first; t++) {
    let state = 0;
    for (let c = 0; c < components; c++) {
      const level = levels[c * first + t];
      out.levels[t * stride + c] = 2 * level + quantizerOf(state);
      out.reconstruction[t * stride + c] = reconstruction[c * first + t];
      state = NEXT_STATE[2 * state + (level & 1)];
    }
  }
  return out;
}

/** Rows [components][tokens] of the host as the token-major rows of a GPU. */
export function tokenMajor<T extends Int32Array | Int16Array>(rows: T, components: number, tokens: number, to: T): T {
  const stride = levelStride(components);
  for (let c = 0; c < components; c++) {
    for (let t = 0; t < tokens; t++) to[t * stride + c] = rows[c * tokens + t];
  }
  return to;
}

/** Inverse. */
export function componentMajor(rows: Int16Array, components: number, tokens: number): Int16Array {
  const stride = levelStride(components);
  const out = new Int16Array(components * tokens);
  for (let c = 0; c < components; c++) {
    for (let t = 0; t < tokens; t++) out[c * tokens + t] = rows[t * stride + c];
  }
  return out;
}

/**
 * Reads a chunk's first status word.
 *
 * @throws {KvzFormatError} as `unescapeLevels` and `decodeTrellisReference` do.
 */
export function requireDecoded(status: number): void {
  if (status === TRELLIS_STATUS.ok) return;
  if (status === TRELLIS_STATUS.tooLarge) throw reconstructionTooLarge();
  if (status === TRELLIS_STATUS.surplus) throw surplusEscapes();
  throw (status & 3) === TRELLIS_STATUS.badEscape ? badEscape() : symbolAboveLimit();
}
