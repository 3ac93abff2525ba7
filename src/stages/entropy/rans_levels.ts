/**
 * Levels as symbols and escapes, in WebAssembly: what escapes.ts defines, the same symbols, bytes and errors.
 *
 * @module
 */
import type { EntropyKernels } from "../../backend/wasm/entropy_kernels.ts";
import {
  badEscape,
  type EscapedLevels,
  levelOutOfRange,
  requireLimits,
  surplusEscapes,
  symbolAboveLimit,
} from "./escapes.ts";
import { placeContexts } from "./rans.ts";
import { type RansContexts, requireContexts } from "./rans_contexts.ts";
import { requireSymbols } from "./rans_stream.ts";

/** Most bytes that the escape of a level takes. */
const ESCAPE_BYTES = 4;

/**
 * Levels [rows][tokens] as symbols and escapes; see `escapeLevels`.
 *
 * @throws {RangeError} when a level is beyond ±2^24, a limit above 254, or sizes and contexts do not fit.
 */
export function escapeLevelsOn(
  kernels: EntropyKernels,
  levels: Int32Array,
  rows: number,
  tokens: number,
  contexts: RansContexts,
  limits: Uint8Array,
): EscapedLevels {
  requireSymbols(levels, rows, tokens);
  requireContexts(contexts, rows, tokens, limits.length);
  requireLimits(limits);
  return kernels.scoped((alloc) => {
    const count = levels.length;
    const [from, symbols] = [alloc(levels.byteLength), alloc(count)];
    const escapes = alloc(ESCAPE_BYTES * count + 1);
    const placed = place(kernels, contexts, tokens, limits, alloc);
    kernels.write(from, levels);
    // Addresses come back signed.
    const end = kernels.exports.escape(from, rows, tokens, ...placed, symbols, escapes) >>> 0;
    if (end === 0) throw levelOutOfRange();
    return {
      symbols: kernels.bytes(symbols, count).slice(),
      escapes: kernels.bytes(escapes, end - escapes).slice(),
    };
  });
}

/**
 * Inverse of {@linkcode escapeLevelsOn}; see `unescapeLevels`.
 *
 * @throws {KvzFormatError} when a symbol is at or above its table's limit without being an escape, or the escapes are
 *   truncated, surplus, longer than need be, of the other parity, or of levels beyond ±2^24.
 * @throws {RangeError} when a limit is above 254, or sizes and contexts do not fit.
 */
export function unescapeLevelsOn(
  kernels: EntropyKernels,
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
  return kernels.scoped((alloc) => {
    const count = symbols.length;
    const [from, coded, to] = [alloc(count), alloc(escapes.length), alloc(4 * count)];
    const placed = place(kernels, contexts, tokens, limits, alloc);
    kernels.write(from, symbols);
    kernels.write(coded, escapes);
    const code = kernels.exports.unescape(from, coded, coded + escapes.length, rows, tokens, ...placed, to);
    if (code === 1) throw badEscape();
    if (code === 2) throw symbolAboveLimit();
    if (code === 3) throw surplusEscapes();
    return new Int32Array(kernels.bytes(to, 4 * count).slice().buffer);
  });
}

/** Contexts, limits and states as the kernels take them. Plain contexts get kinds and successors that change nothing. */
function place(
  kernels: EntropyKernels,
  contexts: RansContexts,
  tokens: number,
  limits: Uint8Array,
  alloc: (byteLength: number) => number,
): [tableOf: number, classes: number, kinds: number, next: number, limits: number, states: number] {
  let [tableOf, classes, kinds, next] = [0, 0, 0, 0];
  if (contexts.variant === "plain") {
    [tableOf, kinds, next] = [alloc(contexts.tableOf.byteLength), alloc(tokens), alloc(16)];
    kernels.write(tableOf, contexts.tableOf);
    kernels.bytes(kinds, tokens).fill(0);
    kernels.bytes(next, 16).fill(0);
  } else {
    [classes, kinds, next] = placeContexts(kernels, contexts, alloc);
  }
  const [bounds, states] = [alloc(limits.length), alloc(tokens)];
  kernels.write(bounds, limits);
  return [tableOf, classes, kinds, next, bounds, states];
}
