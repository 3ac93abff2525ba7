// Long data for CRC32C (src/container/crc32c_fold.ts): words of 16 bytes are cancelled one after the other by adding a
// polynomial that the generator divides, Q(x)^128 with Q = x^209 + x^144 + x^54 + x^39 + x^14 + 1.

/** Bytes of a word, and of the words that one is cancelled by: 209 before it. */
const WORD: usize = 16;

/** To each word of [words + 209 · 16, end): those 65, 155, 170, 195 and 209 before it. */
export function fold(words: usize, end: usize): void {
  for (const last = end - 209 * WORD; words < last; words += WORD) {
    const a = v128.xor(v128.load(words, 209 * WORD), v128.load(words, 144 * WORD));
    const b = v128.xor(v128.load(words, 54 * WORD), v128.load(words, 39 * WORD));
    const c = v128.xor(v128.load(words, 14 * WORD), v128.load(words));
    v128.store(words, v128.xor(a, v128.xor(b, c)), 209 * WORD);
  }
}
