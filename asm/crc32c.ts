// Long data for CRC32C (src/container/crc32c_fold.ts): words of 16 bytes are cancelled one after the other by adding a
// polynomial that the generator divides, Q(x)^128 with Q = x^209 + x^144 + x^54 + x^39 + x^14 + 1.

/** Bytes of a word. */
const WORD: usize = 16;

/**
 * Adds to each word of [words + 209 · 16, end) those 65, 155, 170, 195 and 209 before it, which are what is left of the
 * data before (zeros at its beginning) and words that have been through this.
 */
export function fold(words: usize, end: usize): void {
  for (const last = end - 209 * WORD; words < last; words += WORD) {
    const a = v128.xor(v128.load(words, 209 * WORD), v128.load(words, 144 * WORD));
    const b = v128.xor(v128.load(words, 54 * WORD), v128.load(words, 39 * WORD));
    const c = v128.xor(v128.load(words, 14 * WORD), v128.load(words));
    v128.store(words, v128.xor(a, v128.xor(b, c)), 209 * WORD);
  }
}
