/**
 * Frequency tables and contexts in the forms that the GPU's rANS kernels read (cuda/rans_decode.cu, cuda/rans_encode.cu,
 * wgsl/rans_decode.wgsl, wgsl/rans_encode.wgsl).
 *
 * @module
 */
import { RANS_SYMBOLS, type RansTables, tableCount } from "../../stages/entropy/rans_tables.ts";

/**
 * u32 [tables][2^bits], by slot: symbol (8 bits), slot less the symbol's first (12 bits), frequency less one (12 bits).
 */
export function entriesBySlot(tables: RansTables): Uint32Array {
  const { bits, frequencies } = tables;
  const entries = new Uint32Array(tableCount(tables) << bits);
  for (let i = 0, at = 0; i < frequencies.length; i++) {
    const f = frequencies[i];
    for (let rest = 0; rest < f; rest++) entries[at++] = (i % RANS_SYMBOLS) | (rest << 8) | ((f - 1) << 20);
  }
  return entries;
}

/**
 * The same in about a sixth of the room: where each table begins (in words from the start), then for each table the symbol
 * of every eighth slot (u8 [2^bits / 8]) and for each symbol up to the last that has a frequency its first slot (low 16
 * bits) and the one behind its last. Padded to 16 bytes.
 */
export function soughtEntries(tables: RansTables): Uint32Array {
  const { bits, frequencies } = tables;
  const count = tableCount(tables);
  const hints = 1 << (bits - 3);
  const last = Array.from({ length: count }, (_, i) => {
    let s = RANS_SYMBOLS - 1;
    while (frequencies[i * RANS_SYMBOLS + s] === 0) s--;
    return s;
  });
  const begins: number[] = [];
  let length = count;
  for (const s of last) {
    begins.push(length);
    length += hints / 4 + s + 1;
  }
  const words = new Uint32Array((length + 3) & ~3);
  const bytes = new Uint8Array(words.buffer);
  words.set(begins);
  begins.forEach((begin, i) => {
    for (let s = 0, first = 0; s <= last[i]; s++) {
      const end = first + frequencies[i * RANS_SYMBOLS + s];
      words[begin + hints / 4 + s] = first | (end << 16);
      for (let slot = (first + 7) & ~7; slot < end; slot += 8) bytes[4 * begin + (slot >> 3)] = s;
      first = end;
    }
  });
  return words;
}

/**
 * u32 [tables][256][2], by symbol, 0 where it has no frequency f: factor m; then 2^bits − f (12 bits), first slot (12
 * bits), shift s (5 bits) and, in the top bit, d. For states x < f · 2^(32 − bits), ⌊x / f⌋ = ⌊(x + d) · m / 2^(32 + s)⌋,
 * but for f = 2^bits, where 2^bits − f = 0 makes it irrelevant.
 */
export function entriesBySymbol(tables: RansTables): Uint32Array {
  const { bits, frequencies } = tables;
  const entries = new Uint32Array(2 * frequencies.length);
  for (let i = 0, first = 0; i < frequencies.length; i++) {
    if (i % RANS_SYMBOLS === 0) first = 0;
    const f = frequencies[i];
    if (f === 0) continue;
    const { factor, shift, add } = reciprocal(f, bits);
    entries[2 * i] = factor;
    entries[2 * i + 1] = ((1 << bits) - f) | (first << 12) | (shift << 24) | (add << 31);
    first += f;
  }
  return entries;
}

/**
 * With s = ⌊log2 f⌋ and N = 2^(32 + s): rounding N / f down (by N mod f) is right with d = 1 while (x + 1) · (N mod f) ≤ N,
 * rounding it up (by f − N mod f) is right with d = 0 while x · (f − N mod f) < N; one of them always holds, since N mod f
 * or f − N mod f is at most f / 2. (Robison 2005, "N-bit unsigned division via N-bit multiply-add".)
 */
export function reciprocal(f: number, bits: number): { factor: number; shift: number; add: 0 | 1 } {
  const shift = 31 - Math.clz32(f);
  if (f === 1 << shift) return { factor: 0xffffffff, shift, add: 1 };
  const n = 0x100000000 * (1 << shift);
  const rest = n % f;
  const below = (n - rest) / f;
  return rest * f <= (1 << bits) * (1 << shift)
    ? { factor: below, shift, add: 1 }
    : { factor: below + 1, shift, add: 0 };
}

/** Next states of the trellis after even and after odd levels, 4 bits each by state, from those by 2 · state + parity. */
export function nextStates(next: Uint8Array): [even: number, odd: number] {
  let [even, odd] = [0, 0];
  for (let state = 0; state < 8; state++) {
    even |= next[2 * state] << (4 * state);
    odd |= next[2 * state + 1] << (4 * state);
  }
  return [even >>> 0, odd >>> 0];
}
