/**
 * Levels as symbols of at most 8 bits, with escapes for those beyond a table's range. A level k has the zigzag code
 * z = 2k − 1 for k > 0 and −2k otherwise. Below the limit of its table z is the symbol; otherwise the symbol is 254 for
 * an odd k and 255 for an even one (so that its parity, which moves the trellis, shows in the symbol), and z − limit
 * goes to the escape stream as LEB128, in the order of the symbols. This is the reference; rans_levels.ts runs it in
 * WebAssembly.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { parityOf, type RansContexts, requireContexts, TableWalk } from "./rans_contexts.ts";
import { requireSymbols } from "./rans_stream.ts";

/** Symbol of an odd level outside its table; of an even one it is one more. */
export const ESCAPE_ODD = 254;
/** Largest limit: symbols below it are zigzag codes. */
export const MAX_LIMIT = ESCAPE_ODD;
/** Largest magnitude of a level. */
export const MAX_LEVEL = 2 ** 24;

/** Levels in coded form. */
export interface EscapedLevels {
  /** [rows][tokens]. */
  readonly symbols: Uint8Array;
  /** LEB128 numbers of the symbols 254 and 255. */
  readonly escapes: Uint8Array;
}

/**
 * Levels [rows][tokens] as symbols and escapes. `limits` [tables] holds the first code that each table does not have.
 *
 * @throws {RangeError} when a level is beyond ±2^24, a limit above 254, or sizes and contexts do not fit.
 */
export function escapeLevels(
  levels: Int32Array,
  rows: number,
  tokens: number,
  contexts: RansContexts,
  limits: Uint8Array,
): EscapedLevels {
  requireSymbols(levels, rows, tokens);
  requireContexts(contexts, rows, tokens, limits.length);
  requireLimits(limits);
  const symbols = new Uint8Array(levels.length);
  const escapes: number[] = [];
  const walk = new TableWalk(contexts, tokens);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let t = 0; t < tokens; t++, i++) {
      const k = levels[i];
      if (Math.abs(k) > MAX_LEVEL) throw levelOutOfRange();
      const z = k > 0 ? 2 * k - 1 : -2 * k;
      const limit = limits[walk.table(row, t)];
      symbols[i] = z < limit ? z : ESCAPE_ODD + 1 - (k & 1);
      if (z >= limit) pushLeb128(escapes, z - limit);
      walk.advance(t, symbols[i]);
    }
  }
  return { symbols, escapes: Uint8Array.from(escapes) };
}

/**
 * Inverse of {@linkcode escapeLevels}.
 *
 * @throws {KvzFormatError} when a symbol is at or above its table's limit without being an escape, or the escapes are
 *   truncated, surplus, longer than need be, of the other parity, or of levels beyond ±2^24.
 * @throws {RangeError} when a limit is above 254, or sizes and contexts do not fit.
 */
export function unescapeLevels(
  symbols: Uint8Array,
  escapes: Uint8Array,
  rows: number,
  tokens: number,
  contexts: RansContexts,
  limits: Uint8Array,
): Int32Array {
  requireSymbols(symbols, rows, tokens);
  requireContexts(contexts, rows, tokens, limits.length);
  requireLimits(limits);
  const levels = new Int32Array(symbols.length);
  const walk = new TableWalk(contexts, tokens);
  let at = 0;
  for (let row = 0, i = 0; row < rows; row++) {
    for (let t = 0; t < tokens; t++, i++) {
      const symbol = symbols[i];
      const limit = limits[walk.table(row, t)];
      let z = symbol;
      if (symbol >= ESCAPE_ODD) {
        let value = 0;
        for (let shift = 0;; shift += 7) {
          // Four bytes hold all that a level can need.
          if (at === escapes.length || shift > 21) throw badEscape();
          const byte = escapes[at++];
          value |= (byte & 0x7f) << shift;
          if (byte === 0 && shift > 0) throw badEscape();
          if (byte < 0x80) break;
        }
        z = limit + value;
        if (z > 2 * MAX_LEVEL || parityOf(z) !== parityOf(symbol)) throw badEscape();
      } else if (symbol >= limit) {
        throw symbolAboveLimit();
      }
      levels[i] = z & 1 ? (z + 1) >> 1 : -(z >> 1);
      walk.advance(t, symbol);
    }
  }
  if (at !== escapes.length) throw surplusEscapes();
  return levels;
}

/** @throws {RangeError} when a limit is above {@linkcode MAX_LIMIT}. */
export function requireLimits(limits: Uint8Array): void {
  const i = limits.findIndex((limit) => limit > MAX_LIMIT);
  if (i >= 0) {
    throw new RangeError(`Cannot use limits: that of table ${i} is ${limits[i]}, expected at most ${MAX_LIMIT}`);
  }
}

/** A level too large to code. */
export function levelOutOfRange(): RangeError {
  return new RangeError(`Cannot code levels: one is beyond ±${MAX_LEVEL}`);
}

/** An escape that no encoder writes. */
export function badEscape(): KvzFormatError {
  return new KvzFormatError("Cannot decode levels: an escape is truncated, too long or of the wrong parity");
}

/** A symbol that its table does not have. */
export function symbolAboveLimit(): KvzFormatError {
  return new KvzFormatError("Cannot decode levels: a symbol is neither below its table's limit nor an escape");
}

/** Bytes after the last escape. */
export function surplusEscapes(): KvzFormatError {
  return new KvzFormatError("Cannot decode levels: the escapes do not end with the last symbol");
}

function pushLeb128(to: number[], value: number): void {
  for (; value >= 0x80; value >>= 7) to.push((value & 0x7f) | 0x80);
  to.push(value);
}
