/**
 * Long data made short for CRC32C, which is the remainder of the data, as a polynomial, by the generator G: multiples of
 * G may be added. Q = x^209 + x^144 + x^54 + x^39 + x^14 + 1 is one (the least with six terms), hence Q(x)^128 =
 * Q(x^128) is, whose terms are whole words of 16 bytes apart. Adding it cancels a word for one addition to each of five
 * later words, until the last 209 are left (Russell, "Chorba: A novel CRC32 implementation", arXiv 2412.16398, with
 * polynomials for another generator).
 *
 * In WebAssembly with SIMD, a block of the data at a time. Where an engine does not compile that on the spot, tables do
 * all of the work (crc32c.ts): the same checksum, at a quarter of the speed.
 *
 * @module
 */
import { WASM } from "./crc32c_wasm.ts";

/** Distances between terms of Q, in words, from a word to those that it is added to. */
const TERMS = [65, 155, 170, 195, 209] as const;
const WORD = 16;
/** Bytes that are left. */
const LEFT = 209 * WORD;
/** A page of memory holds what is left of the blocks before, and a block. */
const BLOCK = 57344;
/** Shorter data is faster by tables. */
const LONG = 65536;

interface Folding {
  readonly memory: WebAssembly.Memory;
  fold(words: number, end: number): void;
  heapBase(): number;
}

/** Undefined until it is first wanted. */
let folding: Folding | null | undefined;

function open(): Folding | null {
  try {
    const bytes = Uint8Array.from(atob(WASM), (char) => char.charCodeAt(0));
    return new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports as unknown as Folding;
  } catch {
    return null;
  }
}

/**
 * What has the same checksum as the data, from a register of 0, and how many bytes of the data it stands for.
 *
 * @param register what the first four bytes are combined with
 * @returns null where tables have to do it: for short data, and without WebAssembly
 */
export function foldLong(bytes: Uint8Array, register: number): { rest: Uint8Array; length: number } | null {
  if (bytes.length < LONG) return null;
  folding ??= open();
  if (folding === null) return null;
  const memory = new Uint8Array(folding.memory.buffer);
  const words = (folding.heapBase() + WORD - 1) & -WORD;
  const block = words + LEFT;
  const cancelled = (bytes.length - LEFT) & -WORD;
  memory.fill(0, words, block);
  for (let at = 0, length = 0; at < cancelled; at += length) {
    if (at > 0) memory.copyWithin(words, words + length, block + length);
    length = Math.min(BLOCK, cancelled - at);
    memory.set(bytes.subarray(at, at + length), block);
    if (at === 0) { for (let i = 0; i < 4; i++) memory[block + i] ^= register >>> 8 * i; }
    folding.fold(words, block + length);
    if (at + length === cancelled) memory.copyWithin(words, words + length, block + length);
  }
  // The words that are left take what the cancelled ones before them give, and cancel none.
  const rest = bytes.slice(cancelled, cancelled + LEFT);
  for (const distance of TERMS) {
    const from = words + LEFT - distance * WORD;
    for (let i = 0; i < distance * WORD; i++) rest[i] ^= memory[from + i];
  }
  return { rest, length: cancelled + LEFT };
}
