/**
 * Rows of symbols coded by rANS with a few tables: rows whose symbols are distributed alike share one. Tables and the
 * rows' choices travel with the symbols.
 *
 *     u8     tables, less one
 *     bits   table of each row in as few bits as that number needs, the first row lowest, padded to a byte
 *     …      tables (packed_tables.ts), then the rANS stream of [rows][tokens]
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { frequenciesOf, packTables, unpackTables } from "./packed_tables.ts";
import type { RansContexts } from "./rans_contexts.ts";
import { type RansFactory, withRans } from "./rans_factory.ts";
import { RANS_SYMBOLS, type RansBits, type RansTables, tableCount } from "./rans_tables.ts";

/** Resolution of the tables. */
const BITS: RansBits = 11;
/** Numbers of tables that are tried. */
const TRIED = [1, 2, 4, 8, 16];
const MAX_TABLES = 16;
/** Rounds of giving every row the table that suits it best. */
const ROUNDS = 5;
/** Code length of a symbol that its table lacks, in the units below: only while tables are sought. */
const MISSING = 20 << 12;
/**
 * Code length of a frequency in 1/4096 bit. All engines round alike: none of the numbers is within 10^-5 of a half
 * (tests/engine_math_test.ts), and no Math.log2 is as wrong as that.
 */
const LENGTHS = Int32Array.from(
  { length: (1 << BITS) + 1 },
  (_, f) => f === 0 ? MISSING : Math.round((BITS - Math.log2(f)) * 4096),
);

/** Most bytes that {@linkcode encodeRows} makes. */
export function codedRowsLimit(rows: number, tokens: number): number {
  return 1 + Math.ceil(rows / 2) + MAX_TABLES * 2 * RANS_SYMBOLS + 128 + 2 * rows * tokens;
}

/** Tables of rows, and which of them each row has. */
export interface RowTables {
  readonly tables: RansTables;
  readonly contexts: RansContexts;
}

/**
 * Codes symbols [rows][tokens], of which there is at least one.
 *
 * @param tried Numbers of tables, at most 16, of which the best is taken.
 */
export async function encodeRows(
  rans: RansFactory,
  symbols: Uint8Array,
  rows: number,
  tokens: number,
  tried: readonly number[] = TRIED,
): Promise<Uint8Array> {
  const chosen = chooseTables(countRows(symbols, rows, tokens), tried);
  const { tables, contexts } = chosen;
  return joinRows(chosen, await withRans(rans, tables, (coder) => coder.encode(symbols, rows, tokens, contexts)));
}

/** The tables that suit rows best. */
export function chooseTables(rowCounts: RowCounts, tried: readonly number[] = TRIED): RowTables {
  const { rows } = rowCounts;
  let best: Grouping | null = null;
  for (const tables of tried) {
    if (tables > rows && best !== null) break;
    const grouping = group(rowCounts, Math.min(tables, rows));
    if (best === null || grouping.bits < best.bits) best = grouping;
  }
  const { tableOf, frequencies } = best!;
  return { tables: { bits: BITS, frequencies }, contexts: { variant: "plain", tableOf } };
}

/** Tables and a stream of the rows that they code, as {@linkcode encodeRows} gives them. */
export function joinRows({ tables, contexts }: RowTables, coded: Uint8Array): Uint8Array {
  const { tableOf } = contexts as RansContexts & { variant: "plain" };
  const head = packIndices(tableOf, tableCount(tables));
  const packed = packTables(tables);
  const bytes = new Uint8Array(head.length + packed.length + coded.length);
  bytes.set(head);
  bytes.set(packed, head.length);
  bytes.set(coded, head.length + packed.length);
  return bytes;
}

/**
 * Inverse of {@linkcode encodeRows}.
 *
 * @throws {KvzFormatError} when the bytes are not what it makes for rows and tokens
 */
export async function decodeRows(
  rans: RansFactory,
  bytes: Uint8Array,
  rows: number,
  tokens: number,
): Promise<Uint8Array> {
  const { tables, contexts, coded } = splitRows(bytes, rows);
  return await withRans(rans, tables, (coder) => coder.decode(coded, rows, tokens, contexts));
}

/**
 * Inverse of {@linkcode joinRows}.
 *
 * @throws {KvzFormatError} when there are no such tables
 */
export function splitRows(bytes: Uint8Array, rows: number): RowTables & { readonly coded: Uint8Array } {
  const count = (bytes[0] ?? MAX_TABLES) + 1;
  if (count > MAX_TABLES) throw new KvzFormatError(`Cannot decode symbols: they have ${count} tables, at most 16`);
  const width = indexBits(count);
  const begin = 1 + Math.ceil(rows * width / 8);
  if (begin > bytes.length) throw new KvzFormatError("Cannot decode symbols: the tables of their rows are truncated");
  const tableOf = new Uint16Array(rows);
  for (let row = 0; row < rows; row++) {
    for (let bit = 0; bit < width; bit++) {
      const at = row * width + bit;
      tableOf[row] |= ((bytes[1 + (at >> 3)] >> (at & 7)) & 1) << bit;
    }
    if (tableOf[row] >= count) throw new KvzFormatError(`Cannot decode symbols: row ${row} has no table`);
  }
  const { tables, end } = unpackTables(bytes, begin, count, BITS);
  return { tables, contexts: { variant: "plain", tableOf }, coded: bytes.subarray(end) };
}

/** How often each row has each symbol. */
export interface RowCounts {
  readonly rows: number;
  /** At least one more than the greatest symbol; beyond that it makes no difference. */
  readonly alphabet: number;
  /** [rows][alphabet] */
  readonly counts: Uint32Array;
}

/** Counts symbols [rows][tokens]. */
export function countRows(symbols: Uint8Array, rows: number, tokens: number): RowCounts {
  let alphabet = 1;
  for (let i = 0; i < symbols.length; i++) if (symbols[i] >= alphabet) alphabet = symbols[i] + 1;
  const counts = new Uint32Array(rows * alphabet);
  for (let row = 0, i = 0; row < rows; row++) {
    for (let t = 0; t < tokens; t++, i++) counts[row * alphabet + symbols[i]]++;
  }
  return { rows, alphabet, counts };
}

/** Rows by table, and what that costs in bits, side information included. */
interface Grouping {
  readonly tableOf: Uint16Array;
  readonly frequencies: Uint16Array;
  readonly bits: number;
}

/** Groups rows into so many tables: sorted by how they suit one table for all, cut evenly, then moved where it is best. */
function group(counts: RowCounts, tables: number): Grouping {
  const { rows } = counts;
  let tableOf = new Uint16Array(rows);
  let frequencies = tablesFor(counts, tableOf, 1);
  if (tables > 1) {
    const common = lengthsOf(counts, frequencies);
    const suits = Array.from({ length: rows }, (_, row) => rowCost(counts, row, common, 0));
    const order = suits.map((_, row) => row).sort((a, b) => suits[a] - suits[b] || a - b);
    order.forEach((row, i) => tableOf[row] = Math.floor(i * tables / rows));
    frequencies = tablesFor(counts, tableOf, tables);
    for (let round = 0; round < ROUNDS; round++) {
      const lengths = lengthsOf(counts, frequencies);
      tableOf = tableOf.map((_, row) => cheapest(counts, row, lengths));
      // Tables that no row wants any more go.
      const left = [...new Set(tableOf)].sort((a, b) => a - b);
      tableOf = tableOf.map((table) => left.indexOf(table));
      frequencies = tablesFor(counts, tableOf, left.length);
    }
  }
  const number = frequencies.length / RANS_SYMBOLS;
  let cost = 0;
  const lengths = lengthsOf(counts, frequencies);
  for (let row = 0; row < rows; row++) cost += rowCost(counts, row, lengths, tableOf[row]);
  const side = packTables({ bits: BITS, frequencies }).length + Math.ceil(rows * indexBits(number) / 8);
  return { tableOf, frequencies, bits: cost / 4096 + 8 * side };
}

function tablesFor({ alphabet, counts }: RowCounts, tableOf: Uint16Array, tables: number): Uint16Array {
  const sums = new Uint32Array(tables * RANS_SYMBOLS);
  tableOf.forEach((table, row) => {
    for (let s = 0; s < alphabet; s++) sums[table * RANS_SYMBOLS + s] += counts[row * alphabet + s];
  });
  const frequencies = new Uint16Array(tables * RANS_SYMBOLS);
  for (let at = 0; at < sums.length; at += RANS_SYMBOLS) {
    frequencies.set(frequenciesOf(sums.subarray(at, at + RANS_SYMBOLS), BITS), at);
  }
  return frequencies;
}

/** Code lengths [tables][alphabet] in 1/4096 bit. */
function lengthsOf({ alphabet }: RowCounts, frequencies: Uint16Array): Int32Array {
  const tables = frequencies.length / RANS_SYMBOLS;
  const lengths = new Int32Array(tables * alphabet);
  for (let table = 0; table < tables; table++) {
    for (let s = 0; s < alphabet; s++) {
      lengths[table * alphabet + s] = LENGTHS[frequencies[table * RANS_SYMBOLS + s]];
    }
  }
  return lengths;
}

function cheapest(counts: RowCounts, row: number, lengths: Int32Array): number {
  let best = 0;
  let least = Infinity;
  for (let table = 0; table < lengths.length / counts.alphabet; table++) {
    const cost = rowCost(counts, row, lengths, table);
    if (cost < least) [best, least] = [table, cost];
  }
  return best;
}

/** Code length of a row by a table, in 1/4096 bit. */
function rowCost({ alphabet, counts }: RowCounts, row: number, lengths: Int32Array, table: number): number {
  let cost = 0;
  for (let s = 0, i = row * alphabet, j = table * alphabet; s < alphabet; s++, i++, j++) {
    cost += counts[i] * lengths[j];
  }
  return cost;
}

/** Bits that tell one of `count` tables. */
function indexBits(count: number): number {
  return 32 - Math.clz32(count - 1);
}

function packIndices(tableOf: Uint16Array, count: number): Uint8Array {
  const width = indexBits(count);
  const bytes = new Uint8Array(1 + Math.ceil(tableOf.length * width / 8));
  bytes[0] = count - 1;
  tableOf.forEach((table, row) => {
    for (let bit = 0; bit < width; bit++) {
      const at = row * width + bit;
      bytes[1 + (at >> 3)] |= ((table >> bit) & 1) << (at & 7);
    }
  });
  return bytes;
}
