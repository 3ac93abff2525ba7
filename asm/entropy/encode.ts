// encode: symbols u8 [rows][tokens] → rANS words, from the last symbol to the first, written downwards. 32 tokens go
// together as in decode. ⌊x / f⌋ comes from binary32: ⌊x / 2⌋ times a reciprocal of f / 2 that is too small, so that the
// whole part is ⌊x / f⌋ or one less, which what is left tells (tables.ts: why no more).
import { laneselect, MAGIC, PACK, PACK8, SIZE_11, SIZE_12, swizzle, WORD } from "./lanes";
import { kindIndices } from "./contexts";
import { ABSENT, ENCODE_ENTRY, ENCODE_TABLE } from "./tables";

const LANES: usize = 32;
/**
 * The states, and sixteen symbols with the numbers of their tables above them: engines know that fixed addresses lie within
 * the memory, and load from there faster than they take lanes out of vectors.
 */
const STATES: usize = memory.data(128, 16);
const CODED: usize = memory.data(32, 16);
/** Least value of a state, and its value before the first symbol is coded. */
const LOW: u32 = 1 << 16;

/**
 * `tables`: encoding tables, one after the other. With `indices` null, `tableOf` holds the table of each row, u16 [rows];
 * else indices hold that of each symbol, u8 [rows][tokens]; three more of symbols and indices may be read, of which
 * indices are 0. With `kinds` not null, indices are room for those of one row: they are twice what `tableOf`,
 * u8 [rows][16], holds for the kinds of the tokens, u8 [tokens]. Words go below `end`, where there is room for one a symbol
 * and 16 bytes. Writes `states`, u32 [32]. Returns the address of the first word, or 0 where a symbol has no frequency.
 */
export function encode(
  symbols: usize,
  rows: usize,
  tokens: usize,
  bits: u32,
  tables: usize,
  tableOf: usize,
  indices: usize,
  kinds: usize,
  states: usize,
  end: usize,
): usize {
  for (let lane: usize = 0; lane < LANES; lane++) store<u32>(STATES + (lane << 2), LOW);
  const begin = bits == 11
    ? encode11(symbols, rows, tokens, tables, tableOf, indices, kinds, end - 16)
    : encode12(symbols, rows, tokens, tables, tableOf, indices, kinds, end - 16);
  memory.copy(states, STATES, LANES << 2);
  return begin;
}

// Functions of their own: the compiler would fold the two into one that shifts by variables.

function encode11(
  symbols: usize,
  rows: usize,
  tokens: usize,
  tables: usize,
  tableOf: usize,
  indices: usize,
  kinds: usize,
  end: usize,
): usize {
  return encodeRows(11, symbols, rows, tokens, tables, tableOf, indices, kinds, end);
}

function encode12(
  symbols: usize,
  rows: usize,
  tokens: usize,
  tables: usize,
  tableOf: usize,
  indices: usize,
  kinds: usize,
  end: usize,
): usize {
  return encodeRows(12, symbols, rows, tokens, tables, tableOf, indices, kinds, end);
}

/** Set by a symbol without frequency. */
let absent: u32 = 0;

// @ts-ignore: decorator
@inline
function encodeRows(
  bits: u32,
  symbols: usize,
  rows: usize,
  tokens: usize,
  tables: usize,
  tableOf: usize,
  indices: usize,
  kinds: usize,
  at: usize,
): usize {
  const whole = tokens & ~(LANES - 1);
  absent = 0;
  for (let row = rows; row > 0; row--) {
    const from = symbols + (row - 1) * tokens;
    const table = indices == 0 ? tables + (<usize>load<u16>(tableOf + ((row - 1) << 1)) << ENCODE_TABLE) : tables;
    let numbers = indices;
    if (kinds != 0) kindIndices(tableOf + ((row - 1) << 4), kinds, tokens, indices);
    else if (indices != 0) numbers += (row - 1) * tokens;
    if (whole != tokens) {
      at = encodeRange(bits, from + whole, tokens - whole, table, numbers == 0 ? <usize>0 : numbers + whole, at);
    }
    if (ASC_FEATURE_SIMD) {
      at = numbers == 0
        ? encodeWhole(bits, false, from, whole, table, numbers, at)
        : encodeWhole(bits, true, from, whole, table, numbers, at);
    } else {
      for (let t = whole; t > 0; t -= LANES) {
        at = encodeRange(bits, from + t - LANES, LANES, table, numbers == 0 ? <usize>0 : numbers + t - LANES, at);
      }
    }
  }
  return absent & ABSENT ? 0 : at + 16;
}

/** Up to 32 tokens of a row from lane 0 on, from the last to the first. Returns where the words begin. */
function encodeRange(
  bits: u32,
  symbols: usize,
  count: usize,
  table: usize,
  numbers: usize,
  at: usize,
): usize {
  if (ASC_FEATURE_SIMD) {
    const zero = i32x4.splat(0), size = v128.load(bits == 11 ? SIZE_11 : SIZE_12), word = v128.load(WORD);
    let bad = zero;
    for (let lane = (count - 1) & ~3, more = true; more; lane -= 4) {
      more = lane > 0;
      // Lanes beyond the row keep what they have.
      const off = i32x4.ge_s(i32x4(0, 1, 2, 3), i32x4.splat(<i32>count - <i32>lane));
      const s = v128.load32_zero(symbols + lane);
      const n = numbers == 0 ? zero : v128.load32_zero(numbers + lane);
      const coded = i8x16.shuffle(s, n, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      v128.store(CODED, coded);
      const a = two(0, table), b = two(4, table);
      const p = packed(a, b), f = i32x4.shr_u(p, 16);
      bad = v128.or(bad, v128.andnot(p, off));
      const old = v128.load(STATES + (lane << 2));
      const keeps = v128.or(i32x4.gt_s(f, i32x4.shr_u(old, 32 - bits)), off);
      at = give(old, i32x4.bitmask(keeps), at);
      const y = next(bits, given(old, keeps), f, p, reciprocals(a, b), size, word);
      v128.store(STATES + (lane << 2), laneselect(old, y, off));
    }
    if (i32x4.bitmask(bad)) absent = ABSENT;
    return at;
  }
  for (let lane = count; lane > 0; lane--) {
    const state = STATES + ((lane - 1) << 2);
    let entry = table + (<usize>load<u8>(symbols + lane - 1) << ENCODE_ENTRY);
    if (numbers != 0) entry += <usize>load<u8>(numbers + lane - 1) << ENCODE_TABLE;
    const packed = load<u32>(entry, 4);
    const f = packed >> 16;
    absent |= packed;
    let x = load<u32>(state);
    const gives = x >> (32 - bits) >= f;
    store<u16>(at, x, 14);
    at -= <usize>gives << 1;
    x >>= <u32>gives << 4;
    store<u32>(state, x + (packed & 0xffff) + x / f * ((1 << bits) - f));
  }
  return at;
}

/** All tokens of a row but the last, incomplete group. */
// @ts-ignore: decorator
@inline
function encodeWhole(
  bits: u32,
  indexed: bool,
  symbols: usize,
  whole: usize,
  table: usize,
  numbers: usize,
  at: usize,
): usize {
  const size = v128.load(bits == 11 ? SIZE_11 : SIZE_12), word = v128.load(WORD);
  let bad = i32x4.splat(0);
  for (let t = whole; t > 0;) {
    t -= LANES;
    place(indexed, symbols + t, numbers + t, 16);
    let a = two(24, table), b = two(28, table), c = two(16, table), d = two(20, table), p = packed(a, b), o = packed(c, d);
    bad = v128.or(bad, v128.or(p, o));
    at = code8(bits, STATES + 96, o, reciprocals(c, d), p, reciprocals(a, b), size, word, at);
    a = two(8, table), b = two(12, table), c = two(0, table), d = two(4, table), p = packed(a, b), o = packed(c, d);
    bad = v128.or(bad, v128.or(p, o));
    at = code8(bits, STATES + 64, o, reciprocals(c, d), p, reciprocals(a, b), size, word, at);
    place(indexed, symbols + t, numbers + t, 0);
    a = two(24, table), b = two(28, table), c = two(16, table), d = two(20, table), p = packed(a, b), o = packed(c, d);
    bad = v128.or(bad, v128.or(p, o));
    at = code8(bits, STATES + 32, o, reciprocals(c, d), p, reciprocals(a, b), size, word, at);
    a = two(8, table), b = two(12, table), c = two(0, table), d = two(4, table), p = packed(a, b), o = packed(c, d);
    bad = v128.or(bad, v128.or(p, o));
    at = code8(bits, STATES, o, reciprocals(c, d), p, reciprocals(a, b), size, word, at);
  }
  if (i32x4.bitmask(bad)) absent = ABSENT;
  return at;
}

/** Puts sixteen symbols, with the numbers of their tables above them, into CODED. */
// @ts-ignore: decorator
@inline
function place(indexed: bool, symbols: usize, numbers: usize, offset: usize): void {
  const s = v128.load(symbols + offset);
  const n = indexed ? v128.load(numbers + offset) : i32x4.splat(0);
  v128.store(CODED, i8x16.shuffle(s, n, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
  v128.store(CODED, i8x16.shuffle(s, n, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), 16);
}

/** Two entries, whose symbols are at CODED + at. */
// @ts-ignore: decorator
@inline
function two(at: usize, table: usize): v128 {
  const first = table + (<usize>load<u16>(CODED + at) << ENCODE_ENTRY);
  return v128.load64_lane(table + (<usize>load<u16>(CODED + at + 2) << ENCODE_ENTRY), v128.load64_zero(first), 1);
}

/** Starts and frequencies of four entries. */
// @ts-ignore: decorator
@inline
function packed(a: v128, b: v128): v128 {
  return i32x4.shuffle(a, b, 1, 3, 5, 7);
}

/** Their reciprocals. */
// @ts-ignore: decorator
@inline
function reciprocals(a: v128, b: v128): v128 {
  return i32x4.shuffle(a, b, 0, 2, 4, 6);
}

/** Codes one symbol in each of eight lanes, whose states are stored. Returns where the words begin. */
// @ts-ignore: decorator
@inline
function code8(bits: u32, state: usize, p0: v128, r0: v128, p1: v128, r1: v128, size: v128, word: v128, at: usize): usize {
  const f0 = i32x4.shr_u(p0, 16), old0 = v128.load(state), f1 = i32x4.shr_u(p1, 16), old1 = v128.load(state, 16);
  const keeps0 = i32x4.gt_s(f0, i32x4.shr_u(old0, 32 - bits)), keeps1 = i32x4.gt_s(f1, i32x4.shr_u(old1, 32 - bits));
  const mask = i32x4.bitmask(keeps0) | (i32x4.bitmask(keeps1) << 4);
  const words = i16x8.narrow_i32x4_u(v128.and(old0, word), v128.and(old1, word));
  v128.store(at, swizzle(words, v128.load(<usize>mask << 4, PACK8)));
  v128.store(state, next(bits, given(old0, keeps0), f0, p0, r0, size, word));
  v128.store(state, next(bits, given(old1, keeps1), f1, p1, r1, size, word), 16);
  return at + (<usize>popcnt(mask) << 1) - 16;
}

/** States after they gave words away: of the two that may come out, what stands for the wrong one is smaller. */
// @ts-ignore: decorator
@inline
function given(x: v128, keeps: v128): v128 {
  return i32x4.max_u(v128.and(x, keeps), i32x4.shr_u(x, 16));
}

/** The states after one symbol in each of four lanes; `packed`: starts and frequencies, `r`: reciprocals. */
// @ts-ignore: decorator
@inline
function next(bits: u32, x: v128, f: v128, packed: v128, r: v128, size: v128, word: v128): v128 {
  const q = truncated(f32x4.mul(f32x4.convert_i32x4_s(i32x4.shr_u(x, 1)), r));
  // What is left fits 16 bits, as do 2^bits and starts: the upper halves of lanes are of no use.
  const left = i16x8.sub(x, i16x8.mul(q, f));
  const more = v128.andnot(i16x8.sub(size, f), i16x8.gt_s(f, left));
  const low = v128.and(i16x8.add(i16x8.add(left, packed), more), word);
  return i32x4.add(i32x4.shl(q, bits), low);
}

/** Whole parts of numbers from 0 to 2^23. */
// @ts-ignore: decorator
@inline
function truncated(x: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_trunc_f32x4_s(x);
  const magic = v128.load(MAGIC);
  return v128.xor(f32x4.add(f32x4.trunc(x), magic), magic);
}

/** Gives away the words of four lanes and returns where the words begin. */
// @ts-ignore: decorator
@inline
function give(x: v128, mask: i32, at: usize): usize {
  v128.store64_lane(at + 8, swizzle(x, v128.load(<usize>mask << 4, PACK)), 0);
  return at + (<usize>popcnt(mask) << 1) - 8;
}
