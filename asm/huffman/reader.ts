// Reading codes from the highest bit on. `buffer` holds the next bits at its top; 32 or more of them after a refill, which
// is enough for two codes.

/** The 32 bits at an address, first bit on top. */
// @ts-ignore: decorator
@inline
export function next32(at: usize): u64 {
  return <u64>bswap<u32>(load<u32>(at));
}

/** Length · 256 + symbol of the code at the top of `buffer`. The table is that of decodeTable (src/stages/entropy/huffman.ts). */
// @ts-ignore: decorator
@inline
export function find(table: usize, buffer: u64): u32 {
  const found = <u32>load<u16>(table + (<usize>(buffer >> 54) << 1));
  return found != 0 ? found : findLong(table, <u32>(buffer >> 49));
}

/** The same for codes of more than 10 bits; `window` are the next 15. */
function findLong(table: usize, window: u32): u32 {
  const limits = table + 2048, bases = limits + 32, symbols = bases + 32;
  let length: u32 = 11;
  while (window >= <u32>load<u16>(limits + (length << 1))) length++;
  const place = (<u32>load<u16>(bases + (length << 1)) + (window >> (15 - length))) & 0xffff;
  return (length << 8) | <u32>load<u16>(symbols + (place << 1));
}
