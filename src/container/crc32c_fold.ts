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
import { advance, crc32c } from "./crc32c.ts";
import { WASM } from "./crc32c_wasm.ts";

/** Distances between terms of Q, in words, from a word to those that it is added to. */
const TERMS = [65, 155, 170, 195, 209] as const;
const WORD = 16;
/** Bytes that are left. */
const LEFT = 209 * WORD;
/** A page of memory, nothing else in it: 209 words, zeros or what is left of the block before, and a block. */
const WORDS = 1024;
const DATA = WORDS + LEFT;
const BLOCK = 57344;

interface Folding {
  readonly memory: WebAssembly.Memory;
  fold(words: number, end: number): void;
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

/** {@linkcode crc32c} of data of more than a block. */
export function crc32cOfLong(bytes: Uint8Array): number {
  if (folding === undefined) folding = open();
  if (folding === null) return crc32c(bytes);
  const { rest, length } = fold(folding, bytes);
  return ~advance(advance(0, rest), bytes.subarray(length)) >>> 0;
}

/** What leaves the register as the data does, from 0 instead of −1, and how many bytes of the data it stands for. */
function fold(folding: Folding, bytes: Uint8Array): { rest: Uint8Array; length: number } {
  const memory = new Uint8Array(folding.memory.buffer);
  const cancelled = bytes.length - LEFT - (bytes.length - LEFT) % WORD;
  memory.fill(0, WORDS, DATA);
  for (let at = 0; at < cancelled; at += BLOCK) {
    const length = Math.min(BLOCK, cancelled - at);
    memory.set(bytes.subarray(at, at + length), DATA);
    if (at === 0) { for (let i = 0; i < 4; i++) memory[DATA + i] ^= 0xff; }
    folding.fold(WORDS, DATA + length);
    memory.copyWithin(WORDS, WORDS + length, DATA + length);
  }
  // The words that are left take what the cancelled ones before them give, and cancel none.
  const rest = bytes.slice(cancelled, cancelled + LEFT);
  for (const distance of TERMS) {
    const from = DATA - distance * WORD;
    for (let i = 0; i < distance * WORD; i++) rest[i] ^= memory[from + i];
  }
  return { rest, length: cancelled + LEFT };
}
