// Tables that the coder looks into, made from frequencies u16 [256] that sum to 2^bits.
//
// Decoding: an entry for every slot (x mod 2^bits), u32: symbol | (frequency − 1) << 8 | (slot − start) << 20.
// Encoding: an entry for every symbol, 8 bytes: f32 reciprocal of half the frequency, u32 start | frequency << 16. A
// symbol without frequency has ABSENT instead.

/** Bytes of an entry of an encoding table, as a shift. */
export const ENCODE_ENTRY: usize = 3;
/** Bytes of an encoding table, as a shift. */
export const ENCODE_TABLE: usize = 11;
/** In an encoding entry: no frequency. */
export const ABSENT: u32 = 0x80000000;

/** Bytes of a decoding table, as a shift. */
// @ts-ignore: decorator
@inline
export function decodeTableShift(bits: u32): u32 {
  return bits + 2;
}

/** Fills one decoding table. */
export function decodeTable(frequencies: usize, bits: u32, to: usize): void {
  for (let symbol: u32 = 0; symbol < 256; symbol++) {
    const f = <u32>load<u16>(frequencies + (symbol << 1));
    for (let i: u32 = 0; i < f; i++, to += 4) store<u32>(to, symbol | ((f - (bits - 11)) << 8) | (i << 20));
  }
}

/** Fills one encoding table. */
export function encodeTable(frequencies: usize, to: usize): void {
  let start: u32 = 0;
  for (let symbol: u32 = 0; symbol < 256; symbol++, to += 8) {
    const f = <u32>load<u16>(frequencies + (symbol << 1));
    store<f32>(to, f == 0 ? 0 : reciprocal(f));
    store<u32>(to, f == 0 ? ABSENT : start | (f << 16), 4);
    start += f;
  }
}

/**
 * A binary32 r of at most 2 / f for which t = ⌊x / 2⌋ · r, ⌊x / 2⌋ and t rounded to binary32, lies in (x / f − 1, x / f]
 * for all x < f · 2^21, which states are before a symbol of frequency f is coded with 11 bits (half of that with 12).
 *
 * Below 16, ⌊x / 2⌋ has at most 24 bits and is not rounded; powers of two are exact. Others must make up for one rounding
 * upwards of t (2^-24), or of both. With r rounded down that leaves t at most 2^-22 + 2^-23 of 2^21 below, and 1 / f for
 * the bit that ⌊x / 2⌋ leaves out: 3/4 + 1/16, below 16 1/2 + 1/3.
 */
function reciprocal(f: u32): f32 {
  const exact = 2 / <f64>f;
  if (f < 16 && popcnt(f) == 1) return <f32>exact;
  const most = exact * (1 - (f < 16 ? 1 : 2) / 16777216.0);
  const near = <f32>most;
  return <f64>near > most ? reinterpret<f32>(reinterpret<u32>(near) - 1) : near;
}
