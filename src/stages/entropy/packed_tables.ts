/**
 * Frequency tables that are made from the counts of a chunk itself and carried in it.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { RANS_SYMBOLS, type RansBits, type RansTables } from "./rans_tables.ts";

/** Frequencies from which one more or less does not change a code length much. */
const FLEXIBLE = 4;

/**
 * Frequencies [256] that sum to 2^bits for counts of which one is above 0. Shares are rounded, and what that leaves over
 * or lacks goes one by one to the frequencies of 4 and more; against the best table it costs nothing that shows, and it
 * takes microseconds.
 */
export function frequenciesOf(counts: Uint32Array, bits: RansBits): Uint16Array {
  const size = 1 << bits;
  let total = 0;
  for (let s = 0; s < RANS_SYMBOLS; s++) total += counts[s];
  const scale = size / total;
  const frequencies = new Uint16Array(RANS_SYMBOLS);
  let left = size;
  for (let s = 0; s < RANS_SYMBOLS; s++) {
    if (counts[s] === 0) continue;
    const f = Math.max(1, Math.floor(counts[s] * scale + 0.5));
    frequencies[s] = f;
    left -= f;
  }
  const step = Math.sign(left);
  while (left !== 0) {
    for (let s = 0; s < RANS_SYMBOLS && left !== 0; s++) {
      if (frequencies[s] < FLEXIBLE) continue;
      frequencies[s] += step;
      left -= step;
    }
  }
  return frequencies;
}

/**
 * Tables as a chunk carries them: each frequency in one byte, or two from 128 on (the low seven bits with bit 7 set, then
 * the rest); a zero is followed by how many more zeros follow it.
 */
export function packTables({ frequencies }: RansTables): Uint8Array {
  const bytes: number[] = [];
  for (let begin = 0; begin < frequencies.length; begin += RANS_SYMBOLS) {
    for (let s = 0; s < RANS_SYMBOLS; s++) {
      const f = frequencies[begin + s];
      if (f >= 128) bytes.push(128 | (f & 127), f >> 7);
      else bytes.push(f);
      if (f > 0) continue;
      let more = 0;
      while (s + 1 < RANS_SYMBOLS && frequencies[begin + s + 1] === 0) {
        more++;
        s++;
      }
      bytes.push(more);
    }
  }
  return Uint8Array.from(bytes);
}

/**
 * Reads `count` tables from `at` on.
 *
 * @throws {KvzFormatError} when bytes end, or a table does not have 256 frequencies that sum to 2^bits
 */
export function unpackTables(
  bytes: Uint8Array,
  at: number,
  count: number,
  bits: RansBits,
): { tables: RansTables; end: number } {
  const frequencies = new Uint16Array(count * RANS_SYMBOLS);
  const refuse = (table: number): never => {
    throw new KvzFormatError(`Cannot decode symbols: frequency table ${table} is damaged`);
  };
  let next = at;
  for (let table = 0; table < count; table++) {
    let sum = 0;
    for (let s = 0; s < RANS_SYMBOLS; s++) {
      if (next >= bytes.length) refuse(table);
      let f = bytes[next++];
      if (f >= 128) {
        if (next >= bytes.length) refuse(table);
        f = (f & 127) | (bytes[next++] << 7);
      }
      frequencies[table * RANS_SYMBOLS + s] = Math.min(f, 0xffff);
      sum += f;
      if (f > 0) continue;
      if (next >= bytes.length) refuse(table);
      s += bytes[next++];
      if (s >= RANS_SYMBOLS) refuse(table);
    }
    if (sum !== 1 << bits) refuse(table);
  }
  return { tables: { bits, frequencies }, end: next };
}
