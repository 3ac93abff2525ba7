/**
 * Packs of PackKV: the symbols of a channel over neighbouring tokens, as their least one and offsets of as many bits as the
 * largest offset needs (`bit_pack` of the authors: per pack and channel a minimum of B bits, a length of ⌈log2(B + 1)⌉
 * bits, and the offsets).
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { bitLength, type BitReader, type BitWriter } from "./bits.ts";

/** Bits that tell a length of 0 to `width`. */
export function lengthBits(width: number): number {
  return bitLength(width);
}

/** Writes packs of rows [tokens][channels] in which symbols have `width` bits; channel after channel, pack after pack. */
export function writePacks(
  rows: Uint8Array,
  tokens: number,
  channels: number,
  packTokens: number,
  width: number,
  heads: BitWriter,
  codes: BitWriter,
): void {
  const low = new Uint8Array(channels);
  const high = new Uint8Array(channels);
  for (let first = 0; first < tokens; first += packTokens) {
    low.fill(255);
    high.fill(0);
    for (let at = first * channels; at < (first + packTokens) * channels; at++) {
      const c = at % channels;
      if (rows[at] < low[c]) low[c] = rows[at];
      if (rows[at] > high[c]) high[c] = rows[at];
    }
    for (let c = 0; c < channels; c++) {
      const bits = bitLength(high[c] - low[c]);
      heads.write(low[c], width);
      heads.write(bits, lengthBits(width));
      for (let t = first; t < first + packTokens; t++) codes.write(rows[t * channels + c] - low[c], bits);
    }
  }
}

/**
 * Inverse of {@linkcode writePacks}.
 *
 * @throws {KvzFormatError} A symbol exceeds its bits, or a stream ends before.
 */
export function readPacks(
  tokens: number,
  channels: number,
  packTokens: number,
  width: number,
  heads: BitReader,
  codes: BitReader,
): Uint8Array {
  const rows = new Uint8Array(tokens * channels);
  for (let first = 0; first < tokens; first += packTokens) {
    for (let c = 0; c < channels; c++) {
      const low = heads.read(width);
      const bits = heads.read(lengthBits(width));
      if (bits > width) throw new KvzFormatError(`Cannot decode packs: one has ${bits} bits, symbols ${width}`);
      for (let t = first; t < first + packTokens; t++) {
        const symbol = low + codes.read(bits);
        if (symbol >> width !== 0) {
          throw new KvzFormatError(`Cannot decode packs: symbol ${symbol} exceeds ${width} bits`);
        }
        rows[t * channels + c] = symbol;
      }
    }
  }
  return rows;
}
