/**
 * The form of a rANS stream (docs/format.md, "Entropy streams") and what its coders share: limits, checks and errors.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import type { RansContexts } from "./rans_contexts.ts";

/** Interleaved states: token t belongs to lane t mod 32. */
export const RANS_LANES = 32;
/** Least value of a state, and the one that every lane starts from when it encodes. */
export const RANS_LOW = 2 ** 16;
/** Most symbols of one stream. */
export const RANS_MAX_SYMBOLS = 2 ** 28;

/** A coder of symbol matrices, made for a set of frequency tables. On a GPU it answers later. */
export interface Rans {
  /**
   * Codes symbols [rows][tokens], which may be overwritten when the call has returned. The stream may be at the beginning
   * of `room`, where it is given and the stream fits.
   *
   * @throws {RangeError} when a symbol has frequency 0 in its table, or sizes and contexts do not fit.
   */
  encode(
    symbols: Uint8Array,
    rows: number,
    tokens: number,
    contexts: RansContexts,
    room?: Uint8Array,
  ): Uint8Array | Promise<Uint8Array>;

  /**
   * Restores symbols [rows][tokens], into `out` where it is given; of a damaged stream some may be there. The bytes must
   * stay until it answers.
   *
   * @throws {KvzFormatError} when the bytes are not what {@linkcode Rans.encode} makes for this geometry: truncated,
   *   with surplus bytes, or not ending in the initial states.
   * @throws {RangeError} when contexts or `out` do not fit.
   */
  decode(
    bytes: Uint8Array,
    rows: number,
    tokens: number,
    contexts: RansContexts,
    out?: Uint8Array,
  ): Uint8Array | Promise<Uint8Array>;
}

/** A coder on the host, which answers at once. */
export interface HostRans extends Rans {
  encode(symbols: Uint8Array, rows: number, tokens: number, contexts: RansContexts, room?: Uint8Array): Uint8Array;
  decode(bytes: Uint8Array, rows: number, tokens: number, contexts: RansContexts, out?: Uint8Array): Uint8Array;
}

/** States that a stream carries: one for each lane that codes anything. */
export function usedLanes(rows: number, tokens: number): number {
  return rows === 0 ? 0 : Math.min(RANS_LANES, tokens);
}

/**
 * Checks what an encoder is given.
 *
 * @throws {RangeError} unless symbols are [rows][tokens], at most {@linkcode RANS_MAX_SYMBOLS}.
 */
export function requireSymbols(symbols: ArrayLike<number>, rows: number, tokens: number): void {
  requireCount("rows", rows);
  requireCount("tokens", tokens);
  if (symbols.length !== rows * tokens) {
    throw new RangeError(`Cannot code symbols: there are ${symbols.length}, expected ${rows} × ${tokens}`);
  }
  if (symbols.length > RANS_MAX_SYMBOLS) {
    throw new RangeError(`Cannot code symbols: there are ${symbols.length}, expected at most ${RANS_MAX_SYMBOLS}`);
  }
}

/**
 * Checks a stream's geometry and length before anything is allocated, and gives the number of symbols.
 *
 * @throws {KvzFormatError} when the geometry is beyond {@linkcode RANS_MAX_SYMBOLS} or no stream of it has this length.
 * @throws {RangeError} when `out` has another length.
 */
export function requireStream(bytes: Uint8Array, rows: number, tokens: number, out?: Uint8Array): number {
  const count = requireStreamLength(bytes, rows, tokens);
  if (out !== undefined && out.length !== count) {
    throw new RangeError(`Cannot decode symbols: the output has ${out.length} bytes, expected ${count}`);
  }
  return count;
}

/**
 * Checks a stream's geometry and length; gives the number of symbols.
 *
 * @throws {KvzFormatError} as {@linkcode requireStream} does.
 */
export function requireStreamLength(bytes: Uint8Array, rows: number, tokens: number): number {
  requireCount("rows", rows);
  requireCount("tokens", tokens);
  const count = rows * tokens;
  if (count > RANS_MAX_SYMBOLS) {
    throw new KvzFormatError(
      `Cannot decode symbols: the geometry has ${rows} × ${tokens}, expected at most ${RANS_MAX_SYMBOLS}`,
    );
  }
  const states = 4 * usedLanes(rows, tokens);
  if (bytes.length < states || bytes.length % 2 !== 0 || bytes.length > states + 2 * count) {
    throw new KvzFormatError(
      `Cannot decode symbols: the stream has ${bytes.length} bytes, expected an even number from ${states} to ` +
        `${states + 2 * count}`,
    );
  }
  return count;
}

/** A symbol that its table cannot code. */
export function uncodable(): RangeError {
  return new RangeError("Cannot code symbols: one has frequency 0 in its table, expected at least 1");
}

/** A state below {@linkcode RANS_LOW} at the start of a stream. */
export function badState(): KvzFormatError {
  return new KvzFormatError(`Cannot decode symbols: a state is below ${RANS_LOW}, the stream is damaged`);
}

/** A stream without enough words. */
export function truncated(): KvzFormatError {
  return new KvzFormatError(
    "Cannot decode symbols: the stream ends before its last symbol, it is damaged or truncated",
  );
}

/** A stream whose words or states are not used up. */
export function notAtEnd(): KvzFormatError {
  return new KvzFormatError("Cannot decode symbols: the stream does not end with its last symbol, it is damaged");
}

function requireCount(name: string, count: number): void {
  if (!(Number.isSafeInteger(count) && count >= 0)) {
    throw new RangeError(`Cannot code symbols: ${name} is ${count}, expected a whole number ≥ 0`);
  }
}
