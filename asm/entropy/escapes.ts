// escape, unescape: levels i32 [rows][tokens] ↔ symbols u8 and the LEB128 numbers of those outside their tables; what the
// symbols mean is written in src/stages/entropy/escapes.ts. Sixteen tokens go together where none of them is an escape,
// which is nearly always.
import { advance1, advance16, table1, tables16 } from "./contexts";
import { swizzle } from "./lanes";

const ODD: u32 = 254;
const MAX_LEVEL: i32 = 1 << 24;

/** What unescape returns; escape returns the end of the escapes, or 0 for a level out of range. */
const DONE: i32 = 0;
const BAD_ESCAPE: i32 = 1;
const ABOVE_LIMIT: i32 = 2;
const SURPLUS: i32 = 3;

/** Limits of a row's tables by kind, u8 [2][16]: of the first and the second quantizer. */
const LIMITS: usize = memory.data(32, 16);
/** Where the escapes go on. */
let cursor: usize = 0;

/** Fills LIMITS for a row of trellis contexts, or with one limit for all. */
function rowLimits(row: usize, tableOf: usize, classes: usize, limits: usize): void {
  if (classes == 0) {
    memory.fill(LIMITS, load<u8>(limits + load<u16>(tableOf + (row << 1))), 32);
    return;
  }
  for (let kind: usize = 0; kind < 16; kind++) {
    const pair = limits + (<usize>load<u8>(classes + (row << 4) + kind) << 1);
    store<u8>(LIMITS + kind, load<u8>(pair));
    store<u8>(LIMITS + kind, load<u8>(pair, 1), 16);
  }
}

/** Limit of one token. */
// @ts-ignore: decorator
@inline
function limit1(kind: u32, state: u32): u32 {
  return load<u8>(LIMITS + ((state >> 2) << 4) + kind);
}

/** Limits of sixteen tokens. */
// @ts-ignore: decorator
@inline
function limits16(kinds: v128, states: v128): v128 {
  const second = i8x16.gt_s(states, i8x16.splat(3));
  return v128.bitselect(swizzle(v128.load(LIMITS, 16), kinds), swizzle(v128.load(LIMITS), kinds), second);
}

/**
 * With `classes` null, `tableOf` holds the table of each row, u16 [rows]; kinds and next are not read then but must hold
 * tokens and 16 bytes. `states`: u8 [tokens] of scratch. Escapes take at most 4 bytes a level.
 */
export function escape(
  levels: usize,
  rows: usize,
  tokens: usize,
  tableOf: usize,
  classes: usize,
  kinds: usize,
  next: usize,
  limits: usize,
  states: usize,
  symbols: usize,
  escapes: usize,
): usize {
  memory.fill(states, 0, tokens);
  cursor = escapes;
  for (let row: usize = 0; row < rows; row++, levels += tokens << 2, symbols += tokens) {
    rowLimits(row, tableOf, classes, limits);
    let t: usize = 0;
    if (ASC_FEATURE_SIMD) {
      const list = v128.load(next);
      for (; t + 16 <= tokens; t += 16) {
        const from = levels + (t << 2);
        const z = codes16(v128.load(from), v128.load(from, 16), v128.load(from, 32), v128.load(from, 48));
        const s = v128.load(states + t);
        if (v128.any_true(i8x16.ge_u(z, limits16(v128.load(kinds + t), s)))) {
          if (!escapeRange(from, 16, kinds + t, next, states + t, symbols + t)) return 0;
        } else {
          v128.store(symbols + t, z);
          v128.store(states + t, advance16(list, s, z));
        }
      }
    }
    if (!escapeRange(levels + (t << 2), tokens - t, kinds + t, next, states + t, symbols + t)) return 0;
  }
  return cursor;
}

/** Zigzag codes of sixteen levels, 255 for all above 254. */
// @ts-ignore: decorator
@inline
function codes16(a: v128, b: v128, c: v128, d: v128): v128 {
  const low = i16x8.narrow_i32x4_s(a, b), high = i16x8.narrow_i32x4_s(c, d);
  return i8x16.narrow_i16x8_u(codes8(low), codes8(high));
}

/** Zigzag codes of eight levels that were saturated to 16 bits: 2|k| − (k > 0), saturated again. */
// @ts-ignore: decorator
@inline
function codes8(k: v128): v128 {
  const magnitude = i16x8.min_u(i16x8.abs(k), i16x8.splat(255));
  return i16x8.add(i16x8.add(magnitude, magnitude), i16x8.gt_s(k, i16x8.splat(0)));
}

/** One by one; false for a level out of range. */
function escapeRange(levels: usize, count: usize, kinds: usize, next: usize, states: usize, symbols: usize): bool {
  for (let i: usize = 0; i < count; i++) {
    const k = load<i32>(levels + (i << 2));
    if (k > MAX_LEVEL || k < -MAX_LEVEL) return false;
    const z = <u32>(k > 0 ? 2 * k - 1 : -2 * k);
    const state = <u32>load<u8>(states + i);
    const limit = limit1(load<u8>(kinds + i), state);
    let symbol = z;
    if (z >= limit) {
      symbol = ODD + 1 - (k & 1);
      let value = z - limit;
      for (; value >= 0x80; value >>= 7) store<u8>(cursor++, value | 0x80);
      store<u8>(cursor++, value);
    }
    store<u8>(symbols + i, symbol);
    store<u8>(states + i, advance1(next, state, symbol));
  }
  return true;
}

/** Inverse of escape; the parameters are the same, with the end of the escapes. */
export function unescape(
  symbols: usize,
  escapes: usize,
  end: usize,
  rows: usize,
  tokens: usize,
  tableOf: usize,
  classes: usize,
  kinds: usize,
  next: usize,
  limits: usize,
  states: usize,
  levels: usize,
): i32 {
  memory.fill(states, 0, tokens);
  cursor = escapes;
  for (let row: usize = 0; row < rows; row++, levels += tokens << 2, symbols += tokens) {
    rowLimits(row, tableOf, classes, limits);
    let t: usize = 0;
    if (ASC_FEATURE_SIMD) {
      const list = v128.load(next);
      for (; t + 16 <= tokens; t += 16) {
        const z = v128.load(symbols + t);
        const s = v128.load(states + t);
        if (v128.any_true(i8x16.ge_u(z, limits16(v128.load(kinds + t), s)))) {
          const code = unescapeRange(symbols + t, end, 16, kinds + t, next, states + t, levels + (t << 2));
          if (code != DONE) return code;
        } else {
          const to = levels + (t << 2);
          const low = levels8(i16x8.extend_low_i8x16_u(z)), high = levels8(i16x8.extend_high_i8x16_u(z));
          v128.store(to, i32x4.extend_low_i16x8_s(low));
          v128.store(to, i32x4.extend_high_i16x8_s(low), 16);
          v128.store(to, i32x4.extend_low_i16x8_s(high), 32);
          v128.store(to, i32x4.extend_high_i16x8_s(high), 48);
          v128.store(states + t, advance16(list, s, z));
        }
      }
    }
    const code = unescapeRange(symbols + t, end, tokens - t, kinds + t, next, states + t, levels + (t << 2));
    if (code != DONE) return code;
  }
  return cursor == end ? DONE : SURPLUS;
}

/** Levels of eight zigzag codes: (z + 1) / 2 where z is odd, −z / 2 where it is even. */
// @ts-ignore: decorator
@inline
function levels8(z: v128): v128 {
  const half = i16x8.shr_u(i16x8.add(z, i16x8.splat(1)), 1);
  // All ones where z is even: x ^ −1 + 1 is −x.
  const even = i16x8.sub(v128.and(z, i16x8.splat(1)), i16x8.splat(1));
  return i16x8.sub(v128.xor(half, even), even);
}

/** One by one. */
function unescapeRange(
  symbols: usize,
  end: usize,
  count: usize,
  kinds: usize,
  next: usize,
  states: usize,
  levels: usize,
): i32 {
  for (let i: usize = 0; i < count; i++) {
    const symbol = <u32>load<u8>(symbols + i);
    const state = <u32>load<u8>(states + i);
    const limit = limit1(load<u8>(kinds + i), state);
    let z = symbol;
    if (symbol >= ODD) {
      let value: u32 = 0;
      for (let shift: u32 = 0;; shift += 7) {
        if (cursor == end || shift > 21) return BAD_ESCAPE;
        const byte = <u32>load<u8>(cursor++);
        value |= (byte & 0x7f) << shift;
        if (byte == 0 && shift > 0) return BAD_ESCAPE;
        if (byte < 0x80) break;
      }
      z = limit + value;
      if (z > 2 * MAX_LEVEL || (((z + 1) ^ (symbol + 1)) & 2)) return BAD_ESCAPE;
    } else if (symbol >= limit) {
      return ABOVE_LIMIT;
    }
    store<i32>(levels + (i << 2), z & 1 ? <i32>((z + 1) >> 1) : -<i32>(z >> 1));
    store<u8>(states + i, advance1(next, state, symbol));
  }
  return DONE;
}
