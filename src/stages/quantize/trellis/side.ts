/**
 * Side information of a chunk: what the decoder needs beside the levels. Bytes in planes, for DEFLATE:
 *
 *     s (i16) · modes [tokens] · energies [tokens] · distances to the reference [tokens] low bytes, high bytes
 *     · offsets / 2 + 2 [components]
 *
 * @module
 */
import { KvzFormatError } from "../../../errors.ts";
import { ENERGIES, MODES } from "./model.ts";

/** How a chunk was predicted and classified. */
export interface TrellisSide {
  /** The step is 2^(−s/60). */
  readonly s: number;
  /** Earlier token of the chunk that each token is predicted from, −1 for none: [tokens]. */
  readonly refs: Int16Array;
  /** Prediction mode of each token. */
  readonly modes: Uint8Array;
  /** Energy of each token. */
  readonly energies: Uint8Array;
  /** Shift of each component's class in this chunk: −4, −2, 0, 2 or 4. */
  readonly offsets: Int8Array;
}

/** Largest |offset|. */
export const MAX_OFFSET = 4;
/** Largest |s|: steps from 2^−32 to 2^32. */
export const MAX_S = 1920;

/** Length of the side information. */
export function sideLength(tokens: number, components: number): number {
  return 2 + 4 * tokens + components;
}

/**
 * Components of a chunk, by the length of its side information.
 *
 * @param most those of the file
 * @throws {KvzFormatError} when there are none or more
 */
export function sideComponents(byteLength: number, tokens: number, most: number): number {
  const components = byteLength - sideLength(tokens, 0);
  if (components < 1 || components > most) {
    throw new KvzFormatError(
      `Cannot decode chunk: its side information has ${byteLength} bytes, expected ${sideLength(tokens, 1)} to ` +
        `${sideLength(tokens, most)}`,
    );
  }
  return components;
}

/** Side information as bytes. */
export function encodeSide({ s, refs, modes, energies, offsets }: TrellisSide): Uint8Array {
  const tokens = refs.length;
  const out = new Uint8Array(sideLength(tokens, offsets.length));
  out[0] = s & 0xff;
  out[1] = s >> 8 & 0xff;
  out.set(modes, 2);
  out.set(energies, 2 + tokens);
  for (let t = 0; t < tokens; t++) {
    const distance = refs[t] < 0 ? 0 : t - refs[t];
    out[2 + 2 * tokens + t] = distance & 0xff;
    out[2 + 3 * tokens + t] = distance >> 8;
  }
  offsets.forEach((offset, c) => out[2 + 4 * tokens + c] = (offset + MAX_OFFSET) >> 1);
  return out;
}

/**
 * Inverse of {@linkcode encodeSide}.
 *
 * @throws {KvzFormatError} when the length is another, or a mode, energy, reference, offset or step is impossible.
 */
export function decodeSide(bytes: Uint8Array, tokens: number, components: number): TrellisSide {
  if (bytes.length !== sideLength(tokens, components)) {
    throw new KvzFormatError(
      `Cannot decode chunk: its side information has ${bytes.length} bytes, expected ${sideLength(tokens, components)}`,
    );
  }
  const s = (bytes[0] | bytes[1] << 8) << 16 >> 16;
  if (Math.abs(s) > MAX_S) throw impossible("step", s);
  const plane = (index: number) => bytes.slice(2 + index * tokens, 2 + (index + 1) * tokens);
  const modes = requireBelow(plane(0), MODES, "mode");
  const energies = requireBelow(plane(1), ENERGIES, "energy");
  const [low, high] = [plane(2), plane(3)];
  const refs = new Int16Array(tokens);
  for (let t = 0; t < tokens; t++) {
    const distance = low[t] | high[t] << 8;
    if (distance > t) throw impossible(`reference of token ${t}`, distance);
    refs[t] = distance === 0 ? -1 : t - distance;
  }
  const shifted = requireBelow(bytes.slice(2 + 4 * tokens), MAX_OFFSET + 1, "offset");
  return { s, refs, modes, energies, offsets: Int8Array.from(shifted, (value) => 2 * value - MAX_OFFSET) };
}

function requireBelow(values: Uint8Array, limit: number, what: string): Uint8Array {
  const found = values.find((value) => value >= limit);
  if (found !== undefined) throw impossible(what, found);
  return values;
}

function impossible(what: string, value: number): KvzFormatError {
  return new KvzFormatError(`Cannot decode chunk: its ${what} is ${value}, which no encoder writes`);
}
