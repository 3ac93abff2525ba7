/**
 * The basis in a profile's file: rows of 7-bit integers, those of weak components in coarser multiples, entropy-coded
 * under a few tables by the spread of the row.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { createRans } from "../../stages/entropy/rans.ts";
import { normalizeTables } from "../../stages/entropy/rans_tables.ts";
import { INT7_MAX } from "../../stages/transform/integer_basis.ts";
import type { KvzProfile } from "./types.ts";

/** Symbols of a table that can occur: zigzag codes of −63 … 63. */
export const TABLE_SYMBOLS = 128;
/** Multiples that a row can be coded in. */
export const MULTIPLES: readonly number[] = [1, 2, 4, 8, 16];
/** Tables are half an octave of spread apart. */
const MAX_TABLES = 16;

/** A coded basis. */
export interface CodedBasis {
  /** Multiple of each row, [components]. */
  readonly multiples: Uint8Array;
  /** Table of each row, [components]. */
  readonly tableOf: Uint8Array;
  /** Frequencies of 12 bits, [tables][TABLE_SYMBOLS]. */
  readonly frequencies: Uint16Array;
  /** rANS stream of [components][features]. */
  readonly bytes: Uint8Array;
}

/** Codes a basis; the multiple of a row is the largest that all its entries have. */
export async function encodeBasis({ basis, components, features }: KvzProfile): Promise<CodedBasis> {
  const multiples = new Uint8Array(components);
  const tableOf = new Uint8Array(components);
  const symbols = new Uint8Array(components * features);
  const weights = Array.from({ length: MAX_TABLES }, () => new Float64Array(256));
  for (let c = 0; c < components; c++) {
    const row = basis.subarray(c * features, (c + 1) * features);
    multiples[c] = [...MULTIPLES].reverse().find((multiple) => row.every((value) => value % multiple === 0))!;
    let squares = 0;
    for (const value of row) squares += (value / multiples[c]) * (value / multiples[c]);
    const spread = Math.sqrt(squares / features) + 1;
    for (let left = spread * spread; left >= 2 && tableOf[c] < MAX_TABLES - 1; left /= 2) tableOf[c]++;
    for (let f = 0; f < features; f++) {
      const value = row[f] / multiples[c];
      const symbol = value > 0 ? 2 * value - 1 : -2 * value;
      symbols[c * features + f] = symbol;
      weights[tableOf[c]][symbol]++;
    }
  }
  for (const row of weights) for (let symbol = 0; symbol <= 2 * INT7_MAX; symbol++) row[symbol] += 1;
  const tables = normalizeTables(weights, 12);
  const frequencies = new Uint16Array(MAX_TABLES * TABLE_SYMBOLS);
  for (let table = 0; table < MAX_TABLES; table++) {
    frequencies.set(tables.frequencies.subarray(table * 256, table * 256 + TABLE_SYMBOLS), table * TABLE_SYMBOLS);
  }
  const rans = await createRans(tables);
  const bytes = rans.encode(symbols, components, features, { variant: "plain", tableOf: Uint16Array.from(tableOf) });
  return { multiples, tableOf, frequencies, bytes };
}

/**
 * Inverse of {@linkcode encodeBasis}: [components][features].
 *
 * @throws {KvzFormatError} when tables, multiples or the stream are impossible.
 */
export async function decodeBasis(coded: CodedBasis, components: number, features: number): Promise<Int8Array> {
  const tables = coded.frequencies.length / TABLE_SYMBOLS;
  if (coded.tableOf.some((table) => table >= tables) || coded.multiples.some((m) => !MULTIPLES.includes(m))) {
    throw new KvzFormatError("Cannot read profile: a row of its basis has an impossible table or multiple");
  }
  const frequencies = new Uint16Array(tables * 256);
  for (let table = 0; table < tables; table++) {
    const row = coded.frequencies.subarray(table * TABLE_SYMBOLS, (table + 1) * TABLE_SYMBOLS);
    if (row.reduce((a, b) => a + b, 0) !== 2 ** 12 || row[TABLE_SYMBOLS - 1] !== 0) {
      throw new KvzFormatError(`Cannot read profile: frequencies of basis table ${table} do not sum up to 4096`);
    }
    frequencies.set(row, table * 256);
  }
  const rans = await createRans({ bits: 12, frequencies });
  const tableOf = Uint16Array.from(coded.tableOf);
  const symbols = rans.decode(coded.bytes, components, features, { variant: "plain", tableOf });
  const basis = new Int8Array(components * features);
  for (let c = 0; c < components; c++) {
    const values = valuesOf(coded.multiples[c]);
    for (let i = c * features; i < (c + 1) * features; i++) {
      const symbol = symbols[i];
      if (symbol >= values.length) {
        const value = (symbol + 1 >> 1) * coded.multiples[c];
        throw new KvzFormatError(`Cannot read profile: a basis entry is ±${value}, expected at most ±${INT7_MAX}`);
      }
      basis[i] = values[symbol];
    }
  }
  return basis;
}

/** What the symbols of a row stand for, as far as they may go: 0, 1, −1, 2, … times the row's multiple. */
function valuesOf(multiple: number): Int8Array {
  const most = Math.floor(INT7_MAX / multiple);
  return Int8Array.from(
    { length: 2 * most + 1 },
    (_, symbol) => (symbol & 1 ? symbol + 1 >> 1 : -(symbol >> 1)) * multiple,
  );
}
