// Codes between one byte each, [tokens][components], and packed bits, component-major. Definition: Backend.pack.

const FP8: i32 = 3;

/** plan: u32 [groups][3] = first, size, type. */
export function pack(symbols: usize, plan: usize, groups: usize, components: usize, tokens: usize, packed: usize): void {
  for (let g: usize = 0; g < groups; g++, plan += 12) {
    const first = <usize>load<u32>(plan), size = <usize>load<u32>(plan, 4);
    const type = load<i32>(plan, 8);
    for (let c = first; c < first + size; c++) {
      let from = symbols + c, t: usize = 0;
      if (type == FP8) {
        for (; t < tokens; t++, from += components) store<u8>(packed++, load<u8>(from));
        continue;
      }
      const bits: usize = type == 1 ? 2 : 4;
      const perByte: usize = 8 / bits;
      while (t < tokens) {
        const count = min(perByte, tokens - t);
        let byte: u32 = 0;
        for (let i: usize = 0; i < count; i++, from += components) {
          byte |= <u32>load<u8>(from) << <u32>(i * bits);
        }
        store<u8>(packed++, <u8>byte);
        t += count;
      }
    }
  }
}

/** Inverse of pack. */
export function unpack(packed: usize, plan: usize, groups: usize, components: usize, tokens: usize, symbols: usize): void {
  memory.fill(symbols, 0, tokens * components);
  for (let g: usize = 0; g < groups; g++, plan += 12) {
    const first = <usize>load<u32>(plan), size = <usize>load<u32>(plan, 4);
    const type = load<i32>(plan, 8);
    for (let c = first; c < first + size; c++) {
      let to = symbols + c, t: usize = 0;
      if (type == FP8) {
        for (; t < tokens; t++, to += components) store<u8>(to, load<u8>(packed++));
        continue;
      }
      const bits: usize = type == 1 ? 2 : 4;
      const perByte: usize = 8 / bits;
      const mask: u32 = (1 << <u32>bits) - 1;
      while (t < tokens) {
        const count = min(perByte, tokens - t);
        let byte = <u32>load<u8>(packed++);
        for (let i: usize = 0; i < count; i++, to += components) {
          store<u8>(to, <u8>(byte & mask));
          byte >>>= <u32>bits;
        }
        t += count;
      }
    }
  }
}
