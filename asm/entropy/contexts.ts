// The trellis contexts: table 2 · classes[row][kinds[token]] + (state >> 2), and the state's way by the parity of levels.
// Sixteen tokens go together: the classes of a row are one vector that the tokens' kinds look into, so are the sixteen
// successors of the states.
import { ONES, THREES, swizzle } from "./lanes";

/** Next states of sixteen tokens: 2 · state + parity looked up in `next`. Parity is bit 1 of symbol + 1. */
// @ts-ignore: decorator
@inline
export function advance16(next: v128, states: v128, symbols: v128): v128 {
  const ones = v128.load(ONES);
  const parity = v128.and(i16x8.shr_u(i8x16.add(symbols, ones), 1), ones);
  return swizzle(next, v128.or(i8x16.add(states, states), parity));
}

/** Tables of sixteen tokens. `doubled`: 2 · classes of the row. */
// @ts-ignore: decorator
@inline
export function tables16(doubled: v128, kinds: v128, states: v128): v128 {
  // A true comparison is −1.
  return i8x16.sub(swizzle(doubled, kinds), i8x16.gt_s(states, v128.load(THREES)));
}

/** Next state of one token. */
// @ts-ignore: decorator
@inline
export function advance1(next: usize, state: u32, symbol: u32): u32 {
  return load<u8>(next + ((state << 1) | (((symbol + 1) >> 1) & 1)));
}

/** Table of one token. */
// @ts-ignore: decorator
@inline
export function table1(classes: usize, kind: u32, state: u32): u32 {
  return (<u32>load<u8>(classes + kind) << 1) + (state >> 2);
}

/** Table of every symbol, u8 [rows][tokens], from the symbols. `states`: u8 [tokens] of scratch. */
export function tableIndices(
  symbols: usize,
  rows: usize,
  tokens: usize,
  classes: usize,
  kinds: usize,
  next: usize,
  states: usize,
  to: usize,
): void {
  memory.fill(states, 0, tokens);
  for (let row: usize = 0; row < rows; row++, classes += 16, symbols += tokens, to += tokens) {
    let t: usize = 0;
    if (ASC_FEATURE_SIMD) {
      const list = v128.load(next), c = v128.load(classes), doubled = i8x16.add(c, c);
      for (; t + 16 <= tokens; t += 16) {
        const s = v128.load(states + t);
        v128.store(to + t, tables16(doubled, v128.load(kinds + t), s));
        v128.store(states + t, advance16(list, s, v128.load(symbols + t)));
      }
    }
    for (; t < tokens; t++) {
      const s = <u32>load<u8>(states + t);
      store<u8>(to + t, table1(classes, load<u8>(kinds + t), s));
      store<u8>(states + t, advance1(next, s, load<u8>(symbols + t)));
    }
  }
}

/** Tables of a row's tokens where states stay below 4: twice the classes of their kinds. */
export function kindIndices(classes: usize, kinds: usize, tokens: usize, to: usize): void {
  let t: usize = 0;
  if (ASC_FEATURE_SIMD) {
    const c = v128.load(classes), doubled = i8x16.add(c, c);
    for (; t + 16 <= tokens; t += 16) v128.store(to + t, swizzle(doubled, v128.load(kinds + t)));
  }
  for (; t < tokens; t++) store<u8>(to + t, <u32>load<u8>(classes + <usize>load<u8>(kinds + t)) << 1);
}
