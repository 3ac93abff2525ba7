// decode: symbols u8 of one part of the blocks of a head; symbol n of vector v of token block b goes to
// out + b · outBlock + v · outVector + n · outSymbol.
import { find, next32 } from "./reader";

/** Returns 0, or 1 when a vector is damaged. */
export function decode(
  codes: usize,
  blocks: usize,
  infos: usize,
  table: usize,
  alphabet: u32,
  tokenBlocks: usize,
  blockStride: usize,
  vectorStride: usize,
  vectors: usize,
  length: usize,
  out: usize,
  outBlock: usize,
  outVector: usize,
  outSymbol: usize,
): u32 {
  let bad: u32 = 0;
  for (let b: usize = 0; b < tokenBlocks; b++) {
    const begin = codes + load<u32>(blocks);
    const raw = load<u16>(blocks, 6) != 0;
    let at = begin;
    for (let v: usize = 0; v < vectors; v++) {
      const info = <usize>load<u16>(infos + (v << 1));
      const end = begin + (info >> 3) + 1;
      let to = out + v * outVector;
      if (raw) {
        for (let n: usize = 0; n < length; n++, to += outSymbol) {
          const symbol = <u32>load<u8>(at + n);
          bad |= u32(symbol >= alphabet);
          store<u8>(to, symbol);
        }
      } else {
        let buffer: u64 = 0, have: i32 = 0, used: u32 = 0, from = at;
        for (let n: usize = 0; n < length; n++, to += outSymbol) {
          if (have < 15) {
            buffer |= next32(from) << (32 - have);
            have += 32;
            from += 4;
          }
          const found = find(table, buffer), size = found >> 8;
          store<u8>(to, found);
          buffer <<= size;
          have -= size;
          used += size;
        }
        bad |= u32(used != <u32>(((end - at) << 3) - (info & 7)));
      }
      at = end;
    }
    blocks += blockStride << 3;
    infos += vectorStride << 1;
    out += outBlock;
  }
  return bad;
}
