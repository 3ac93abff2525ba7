/**
 * The streams of a chunk of the lossless coder (docs/format.md, "Recipe lossless"): writing and reading what is not
 * coded symbols.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { RANS_SYMBOLS, type RansBits, type RansTables, tableCount } from "../entropy/rans_tables.ts";
import { CLASSES, packCodes, type RowCodes, SCALES, unpackCodes } from "./codes.ts";
import type { ElementParts } from "./kernels.ts";
import { type LosslessShape, rowCount, type RowGroup } from "./shape.ts";
import { packTables, unpackTables } from "../entropy/packed_tables.ts";

/** A chunk of one kind, before the codec's DEFLATE of `contexts` and `escapes`. */
export interface LosslessStreams {
  /** How the symbols are coded: mode, codes of the rows, tables, lengths. */
  readonly contexts: Uint8Array;
  /** Coded symbols, or the symbols themselves in mode plain. */
  readonly symbols: Uint8Array;
  /** Planes of the fractions. */
  readonly planes: Uint8Array;
  /** Exponents that symbols do not tell. */
  readonly escapes: Uint8Array;
}

/** How symbols are coded: as they are; with a σ for each block; with a σ and a mean for each row. */
export const MODES = ["plain", "blocks", "rows"] as const;

/** Resolution of all tables here. */
export const TABLE_BITS: RansBits = 12;

/** A plane coded with a table of its own. */
export interface CodedPlane {
  readonly tables: RansTables;
  readonly length: number;
}

/** Coded symbols: what their decoder needs. */
export interface SymbolContexts {
  readonly mode: "blocks" | "rows";
  readonly codes: RowCodes;
  /** Which classes have a table, ascending. */
  readonly used: readonly number[];
  readonly tables: RansTables;
  /** Bytes of each group's stream. */
  readonly lengths: readonly number[];
}

/** What `contexts` says. */
export interface ChunkContexts {
  readonly base: number;
  /** null in mode plain. */
  readonly symbols: SymbolContexts | null;
  /** For each plane, null where it is stored as it is. */
  readonly planes: readonly (CodedPlane | null)[];
}

/** Most bytes that `contexts` can have. */
export function contextsLimit(shape: LosslessShape, groups: number, planes: number): number {
  const table = 2 * RANS_SYMBOLS;
  return 3 + 2 * rowCount(shape) + CLASSES / 8 + CLASSES * table + 4 * groups + planes * (table + 4);
}

/** Writes `contexts`. */
export function packContexts({ base, symbols, planes }: ChunkContexts, scales: readonly number[]): Uint8Array {
  const flags = planes.reduce((sum, plane, i) => sum | (plane === null ? 0 : 1 << i), 0);
  const parts: Uint8Array[] = [Uint8Array.of(symbols === null ? 0 : MODES.indexOf(symbols.mode), base, flags)];
  if (symbols !== null) {
    const bitmap = new Uint8Array(CLASSES / 8);
    for (const c of symbols.used) bitmap[c >> 3] |= 1 << (c & 7);
    parts.push(symbols.mode === "rows" ? packCodes(symbols.codes) : Uint8Array.from(scales), bitmap);
    parts.push(packTables(symbols.tables), ...symbols.lengths.map(u32));
  }
  for (const plane of planes) if (plane !== null) parts.push(packTables(plane.tables), u32(plane.length));
  return concat(parts);
}

/**
 * Reads `contexts`.
 *
 * @throws {KvzFormatError} when it is not what {@linkcode packContexts} writes
 */
export function unpackContexts(
  bytes: Uint8Array,
  shape: LosslessShape,
  groups: readonly RowGroup[],
  rows: Int32Array,
  planeCount: number,
): ChunkContexts {
  let at = 3;
  const take = (length: number) => {
    if (at + length > bytes.length) throw damaged("its contexts end early");
    return bytes.subarray(at, at += length);
  };
  const takeTables = (count: number) => {
    const { tables, end } = unpackTables(bytes, at, count, TABLE_BITS);
    at = end;
    return tables;
  };
  const takeLength = () => {
    const [a, b, c, d] = take(4);
    return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
  };
  if (bytes.length < 3) throw damaged("its contexts end early");
  const [modeCode, base, flags] = bytes;
  const mode = MODES[modeCode];
  if (mode === undefined) throw damaged(`its mode is ${modeCode}, expected 0 to ${MODES.length - 1}`);
  if (flags >> planeCount !== 0) throw damaged(`it codes planes ${flags.toString(2)}, expected ${planeCount}`);
  if (shape.dtype === "f16" ? base !== 0 : base > 254) throw damaged(`its base exponent is ${base}`);
  let symbols: SymbolContexts | null = null;
  if (mode !== "plain") {
    const codes = mode === "rows"
      ? unpackCodes(take(2 * rowCount(shape)), groups)
      : blockCodes(take(shape.blocks), shape, rows);
    const bitmap = take(CLASSES / 8);
    const used = Array.from({ length: CLASSES }, (_, c) => c).filter((c) => (bitmap[c >> 3] >> (c & 7)) & 1);
    const tables = takeTables(used.length);
    symbols = { mode, codes, used, tables, lengths: groups.map(takeLength) };
  }
  const planes = Array.from(
    { length: planeCount },
    (_, i) => (flags >> i) & 1 ? { tables: takeTables(1), length: takeLength() } : null,
  );
  if (at !== bytes.length) throw damaged("its contexts go on after their end");
  return { base, symbols, planes };
}

/** Codes of rows from a σ for each block: no means. */
export function blockCodes(scales: ArrayLike<number>, { blocks, dim }: LosslessShape, rows: Int32Array): RowCodes {
  const codes = { scales: new Uint8Array(rows.length), means: new Uint8Array(rows.length) };
  for (let block = 0; block < blocks; block++) {
    if (scales[block] >= SCALES) throw damaged(`block ${block} has scale ${scales[block]}`);
    for (let i = 0; i < dim; i++) codes.scales[rows[block * dim + i]] = scales[block];
  }
  return codes;
}

/** In place of the number of a class that has no table. */
export const NO_TABLE = 255;

/** Number of each used class, so that tables stand without gaps. */
export function classNumbers({ used }: Pick<SymbolContexts, "used">): Uint8Array {
  const numbers = new Uint8Array(CLASSES).fill(NO_TABLE);
  used.forEach((c, i) => numbers[c] = i);
  return numbers;
}

/** Writes `escapes`: nothing without any, else how many each block has, u32 [blocks], and the exponents. */
export function packEscapes({ escapes, escapeCounts }: ElementParts): Uint8Array {
  return escapes.length === 0 ? new Uint8Array(0) : concat([...Array.from(escapeCounts, u32), escapes]);
}

/**
 * Reads `escapes`.
 *
 * @throws {KvzFormatError} when the counts are not those of the exponents
 */
export function unpackEscapes(
  bytes: Uint8Array,
  { blocks, dtype }: LosslessShape,
): Pick<ElementParts, "escapes" | "escapeCounts"> {
  const escapeCounts = new Uint32Array(blocks);
  if (bytes.length === 0) return { escapes: bytes, escapeCounts };
  if (dtype === "f16" || bytes.length < 4 * blocks) throw damaged(`it has ${bytes.length} bytes of exponents`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let block = 0; block < blocks; block++) escapeCounts[block] = view.getUint32(4 * block, true);
  const escapes = bytes.subarray(4 * blocks);
  const sum = escapeCounts.reduce((total, count) => total + count, 0);
  if (sum !== escapes.length) throw damaged(`it has ${escapes.length} exponents apart, expected ${sum}`);
  return { escapes, escapeCounts };
}

/** Joins arrays; a single one is returned as it is. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0];
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Joins arrays; those that follow each other in one buffer are not copied. */
export function whole(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 0) return new Uint8Array(0);
  const { buffer, byteOffset } = parts[0];
  let end = byteOffset;
  const follow = parts.every((part) =>
    part.buffer === buffer && part.byteOffset === (end += part.length) - part.length
  );
  return follow ? new Uint8Array(buffer, byteOffset, end - byteOffset) : concat(parts);
}

/** A chunk that no encoder writes. */
export function damaged(what: string): KvzFormatError {
  return new KvzFormatError(`Cannot decode elements: the chunk is damaged, ${what}`);
}

/** Tables of classes as the trellis contexts have them: two a class, of which only the first is used here. */
export function doubled({ bits, frequencies }: RansTables): RansTables {
  const count = tableCount({ bits, frequencies });
  const out = new Uint16Array(2 * frequencies.length);
  for (let i = 0; i < count; i++) {
    const table = frequencies.subarray(i * RANS_SYMBOLS, (i + 1) * RANS_SYMBOLS);
    out.set(table, 2 * i * RANS_SYMBOLS);
    out.set(table, (2 * i + 1) * RANS_SYMBOLS);
  }
  return { bits, frequencies: out };
}

function u32(value: number): Uint8Array {
  return Uint8Array.of(value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24);
}
