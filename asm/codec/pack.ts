// pack, unpack: symbols u8 [tokens][components] ↔ codes of 2, 4 or 8 bits, component by component, first token in the
// lowest bits, every component padded to whole bytes. Sixteen components go together: a vector holds one symbol of each.
import { groupFirst, groupSize, groupType, typeBits } from "./plan";

/** Packs all groups in order. */
export function pack(
  symbols: usize,
  plan: usize,
  groups: usize,
  components: usize,
  tokens: usize,
  packed: usize,
): void {
  for (let g: usize = 0; g < groups; g++) {
    const bits = typeBits(groupType(plan, g));
    const size = groupSize(plan, g);
    const bytes = (tokens * bits + 7) >> 3;
    const from = symbols + groupFirst(plan, g);
    let c: usize = 0;
    if (ASC_FEATURE_SIMD) {
      for (; c + 16 <= size; c += 16) packSixteen(from + c, components, tokens, bits, packed + c * bytes, bytes);
    }
    for (; c < size; c++) packOne(from + c, components, tokens, bits, packed + c * bytes);
    packed += size * bytes;
  }
}

/** Unpacks all groups in order; components outside any group become 0. */
export function unpack(
  packed: usize,
  plan: usize,
  groups: usize,
  components: usize,
  tokens: usize,
  symbols: usize,
): void {
  memory.fill(symbols, 0, tokens * components);
  for (let g: usize = 0; g < groups; g++) {
    const bits = typeBits(groupType(plan, g));
    const size = groupSize(plan, g);
    const bytes = (tokens * bits + 7) >> 3;
    const to = symbols + groupFirst(plan, g);
    let c: usize = 0;
    if (ASC_FEATURE_SIMD) {
      for (; c + 16 <= size; c += 16) unpackSixteen(packed + c * bytes, bytes, components, tokens, bits, to + c);
    }
    for (; c < size; c++) unpackOne(packed + c * bytes, components, tokens, bits, to + c);
    packed += size * bytes;
  }
}

function packOne(from: usize, stride: usize, tokens: usize, bits: usize, to: usize): void {
  for (let t: usize = 0; t < tokens; to++) {
    let byte: u32 = 0;
    for (let at: usize = 0; at < 8 && t < tokens; at += bits, t++, from += stride) {
      byte |= <u32>load<u8>(from) << <u32>at;
    }
    store<u8>(to, byte);
  }
}

function unpackOne(from: usize, stride: usize, tokens: usize, bits: usize, to: usize): void {
  const mask = ((<u32>1) << <u32>bits) - 1;
  for (let t: usize = 0; t < tokens; from++) {
    const byte = <u32>load<u8>(from);
    for (let at: usize = 0; at < 8 && t < tokens; at += bits, t++, to += stride) {
      store<u8>(to, (byte >> <u32>at) & mask);
    }
  }
}

/** As packOne for 16 components whose packed bytes are `bytes` apart. */
function packSixteen(from: usize, stride: usize, tokens: usize, bits: usize, to: usize, bytes: usize): void {
  const to4 = to + 4 * bytes, to8 = to + 8 * bytes, to12 = to + 12 * bytes;
  for (let t: usize = 0, j: usize = 0; t < tokens; j++) {
    let v = i8x16.splat(0);
    for (let at: usize = 0; at < 8 && t < tokens; at += bits, t++, from += stride) {
      v = v128.or(v, i8x16.shl(v128.load(from), <i32>at));
    }
    v128.store8_lane(to + j, v, 0);
    v128.store8_lane(to + bytes + j, v, 1);
    v128.store8_lane(to + 2 * bytes + j, v, 2);
    v128.store8_lane(to + 3 * bytes + j, v, 3);
    v128.store8_lane(to4 + j, v, 4);
    v128.store8_lane(to4 + bytes + j, v, 5);
    v128.store8_lane(to4 + 2 * bytes + j, v, 6);
    v128.store8_lane(to4 + 3 * bytes + j, v, 7);
    v128.store8_lane(to8 + j, v, 8);
    v128.store8_lane(to8 + bytes + j, v, 9);
    v128.store8_lane(to8 + 2 * bytes + j, v, 10);
    v128.store8_lane(to8 + 3 * bytes + j, v, 11);
    v128.store8_lane(to12 + j, v, 12);
    v128.store8_lane(to12 + bytes + j, v, 13);
    v128.store8_lane(to12 + 2 * bytes + j, v, 14);
    v128.store8_lane(to12 + 3 * bytes + j, v, 15);
  }
}

/** As unpackOne for 16 components whose packed bytes are `bytes` apart. */
function unpackSixteen(from: usize, bytes: usize, stride: usize, tokens: usize, bits: usize, to: usize): void {
  const mask = i8x16.splat(<i8>(((<u32>1) << <u32>bits) - 1));
  const from4 = from + 4 * bytes, from8 = from + 8 * bytes, from12 = from + 12 * bytes;
  for (let t: usize = 0, j: usize = 0; t < tokens; j++) {
    let v = i8x16.splat(0);
    v = v128.load8_lane(from + j, v, 0);
    v = v128.load8_lane(from + bytes + j, v, 1);
    v = v128.load8_lane(from + 2 * bytes + j, v, 2);
    v = v128.load8_lane(from + 3 * bytes + j, v, 3);
    v = v128.load8_lane(from4 + j, v, 4);
    v = v128.load8_lane(from4 + bytes + j, v, 5);
    v = v128.load8_lane(from4 + 2 * bytes + j, v, 6);
    v = v128.load8_lane(from4 + 3 * bytes + j, v, 7);
    v = v128.load8_lane(from8 + j, v, 8);
    v = v128.load8_lane(from8 + bytes + j, v, 9);
    v = v128.load8_lane(from8 + 2 * bytes + j, v, 10);
    v = v128.load8_lane(from8 + 3 * bytes + j, v, 11);
    v = v128.load8_lane(from12 + j, v, 12);
    v = v128.load8_lane(from12 + bytes + j, v, 13);
    v = v128.load8_lane(from12 + 2 * bytes + j, v, 14);
    v = v128.load8_lane(from12 + 3 * bytes + j, v, 15);
    for (let at: usize = 0; at < 8 && t < tokens; at += bits, t++, to += stride) {
      v128.store(to, v128.and(i8x16.shr_u(v, <i32>at), mask));
    }
  }
}
