/**
 * What symbols cost: counts to make tables from, and the code length that a model promises.
 *
 * @module
 */
import { type RansContexts, requireContexts, tablesOf } from "./rans_contexts.ts";
import { requireSymbols } from "./rans_stream.ts";
import { RANS_SYMBOLS, type RansTables, requireTables, tableCount } from "./rans_tables.ts";

/**
 * How often each table meets each symbol, [tables][256].
 *
 * @throws {RangeError} when sizes and contexts do not fit.
 */
export function countSymbols(
  symbols: Uint8Array,
  rows: number,
  tokens: number,
  contexts: RansContexts,
  tables: number,
): Uint32Array {
  requireSymbols(symbols, rows, tokens);
  requireContexts(contexts, rows, tokens, tables);
  const counts = new Uint32Array(tables * RANS_SYMBOLS);
  const table = tablesOf(symbols, rows, tokens, contexts);
  for (let i = 0; i < symbols.length; i++) counts[table[i] * RANS_SYMBOLS + symbols[i]]++;
  return counts;
}

/**
 * The symbols' code length under the tables in bits: Σ log2(2^bits / frequency). Infinite where a frequency is 0.
 *
 * @throws {RangeError} when tables, sizes and contexts do not fit.
 */
export function modelBits(
  tables: RansTables,
  symbols: Uint8Array,
  rows: number,
  tokens: number,
  contexts: RansContexts,
): number {
  requireTables(tables);
  const counts = countSymbols(symbols, rows, tokens, contexts, tableCount(tables));
  let sum = 0;
  for (let i = 0; i < counts.length; i++) {
    if (counts[i] > 0) sum += counts[i] * (tables.bits - Math.log2(tables.frequencies[i]));
  }
  return sum;
}
