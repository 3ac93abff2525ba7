// Tables that the coder looks into, made from frequencies u16 [256] that sum to 2^bits.
//
// Decoding: an entry for every slot (x mod 2^bits), u32: symbol | (frequency − 1) << 8 | (slot − start) << 20.
// Encoding: an entry for every symbol, 16 bytes: f64 reciprocal of the frequency, u32 start | frequency << 16, u32 unused.
// A symbol without frequency has ABSENT instead.

/** Bytes of an entry of an encoding table, as a shift. */
export const ENCODE_ENTRY: usize = 4;
/** Bytes of an encoding table, as a shift. */
export const ENCODE_TABLE: usize = 12;
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
  for (let symbol: u32 = 0; symbol < 256; symbol++, to += 16) {
    const f = <u32>load<u16>(frequencies + (symbol << 1));
    store<f64>(to, f == 0 ? 0 : 1 / <f64>f);
    store<u32>(to, f == 0 ? ABSENT : start | (f << 16), 8);
    store<u32>(to, 0, 12);
    start += f;
  }
}
