/**
 * Huffman codes for symbols of a byte: canonical (the lengths alone give the code), no code longer than 15 bits
 * (package–merge: Larmore and Hirschberg 1990, optimal under the limit), every symbol of the alphabet with a code, so
 * that a code made of some data can code any.
 *
 * Codes are read from the highest bit of a byte on. Of two codes of one length the smaller symbol has the smaller code.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";

/** Longest code. */
export const MAX_CODE_BITS = 15;
/** Leading bits that find a symbol by one look-up where its code is not longer. */
export const LOOKUP_BITS = 10;

/** Where the parts of a {@linkcode decodeTable} begin. */
export const TABLE_LAYOUT = {
  /** u16 by the next 10 bits: length · 256 + symbol, or 0 where the code is longer. */
  lookup: 0,
  /** u16 by length: the first value of the next 15 bits that a longer code has, from 0 to 2^15. */
  limits: 1 << LOOKUP_BITS,
  /** u16 by length: index of a code's symbol less the code, modulo 2^16. */
  bases: (1 << LOOKUP_BITS) + MAX_CODE_BITS + 1,
  /** u16 [256]: symbols in the order of their codes. */
  symbols: (1 << LOOKUP_BITS) + 2 * (MAX_CODE_BITS + 1),
  /** Words of a table. */
  words: (1 << LOOKUP_BITS) + 2 * (MAX_CODE_BITS + 1) + 256,
} as const;

/** A symbol or a package of symbols, as package–merge combines them. */
interface Item {
  readonly weight: number;
  readonly symbols: readonly number[];
}

/**
 * Code lengths, 1 to 15, that make Σ weight · length least. A weight of 0 counts as 1: the symbol has a code all the
 * same.
 *
 * @param counts how often each symbol of the alphabet occurs, 2 to 256 of them, whole numbers
 * @throws {RangeError} for another alphabet
 */
export function codeLengths(counts: ArrayLike<number>): Uint8Array {
  if (counts.length < 2 || counts.length > 256) {
    throw new RangeError(`Cannot make a Huffman code: the alphabet has ${counts.length} symbols, expected 2 to 256`);
  }
  const leaves: Item[] = Array.from(counts, (count, symbol) => ({ weight: Math.max(1, count), symbols: [symbol] }));
  leaves.sort((a, b) => a.weight - b.weight);
  let items = leaves;
  for (let bits = 1; bits < MAX_CODE_BITS; bits++) {
    const packages: Item[] = [];
    for (let i = 0; i + 1 < items.length; i += 2) {
      const [a, b] = [items[i], items[i + 1]];
      packages.push({ weight: a.weight + b.weight, symbols: [...a.symbols, ...b.symbols] });
    }
    items = mergeByWeight(leaves, packages);
  }
  const lengths = new Uint8Array(counts.length);
  for (const { symbols } of items.slice(0, 2 * counts.length - 2)) for (const symbol of symbols) lengths[symbol]++;
  return lengths;
}

/** Two rising lists as one; of equals those of the first list come first. */
function mergeByWeight(a: readonly Item[], b: readonly Item[]): Item[] {
  const out: Item[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    out.push(j === b.length || (i < a.length && a[i].weight <= b[j].weight) ? a[i++] : b[j++]);
  }
  return out;
}

/** The canonical code of each symbol, in the lowest bits. */
export function canonicalCodes(lengths: Uint8Array): Uint16Array {
  const codes = new Uint16Array(lengths.length);
  let code = 0;
  for (let length = 1; length <= MAX_CODE_BITS; length++, code <<= 1) {
    for (let symbol = 0; symbol < lengths.length; symbol++) if (lengths[symbol] === length) codes[symbol] = code++;
  }
  return codes;
}

/**
 * What decoders look symbols up in, u16 words as {@linkcode TABLE_LAYOUT} says; the same for all backends. With w the
 * next 15 bits: `lookup[w >> 5]`, and where that is 0 the shortest length l above 10 with w < limits[l]:
 * symbols[(bases[l] + (w >> 15 − l)) mod 2^16].
 */
export function decodeTable(lengths: Uint8Array): Uint16Array {
  const table = new Uint16Array(TABLE_LAYOUT.words);
  const codes = canonicalCodes(lengths);
  let [index, next] = [0, 0];
  for (let length = 1; length <= MAX_CODE_BITS; length++) {
    next <<= 1;
    table[TABLE_LAYOUT.bases + length] = index - next;
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== length) continue;
      table[TABLE_LAYOUT.symbols + index++] = symbol;
      next++;
      if (length > LOOKUP_BITS) continue;
      const shift = LOOKUP_BITS - length;
      table.fill(length << 8 | symbol, codes[symbol] << shift, codes[symbol] + 1 << shift);
    }
    table[TABLE_LAYOUT.limits + length] = next << MAX_CODE_BITS - length;
  }
  return table;
}

/** Lengths as a file has them: 4 bits a symbol, the first in the lowest bits, padded with 0 to a whole byte. */
export function packLengths(lengths: Uint8Array): Uint8Array {
  const out = new Uint8Array(packedLengthsBytes(lengths.length));
  lengths.forEach((length, symbol) => out[symbol >> 1] |= length << 4 * (symbol & 1));
  return out;
}

/** Bytes of {@linkcode packLengths}. */
export function packedLengthsBytes(alphabet: number): number {
  return Math.ceil(alphabet / 2);
}

/**
 * Inverse of {@linkcode packLengths}.
 *
 * @throws {KvzFormatError} The lengths are not those of a complete code in which every symbol has one.
 */
export function unpackLengths(bytes: Uint8Array, alphabet: number): Uint8Array {
  const lengths = Uint8Array.from({ length: alphabet }, (_, symbol) => bytes[symbol >> 1] >> 4 * (symbol & 1) & 15);
  let room = 1 << MAX_CODE_BITS;
  for (let symbol = 0; symbol < alphabet; symbol++) {
    if (lengths[symbol] === 0) throw new KvzFormatError(`Cannot read Huffman code: symbol ${symbol} has none`);
    room -= 1 << MAX_CODE_BITS - lengths[symbol];
  }
  if (room !== 0) {
    throw new KvzFormatError(`Cannot read Huffman code: its lengths ${room < 0 ? "overlap" : "leave a gap"}`);
  }
  if (alphabet % 2 === 1 && bytes[alphabet >> 1] >> 4 !== 0) {
    throw new KvzFormatError("Cannot read Huffman code: its padding is not 0");
  }
  return lengths;
}
