// encode: symbols u8 [rows][tokens] → rANS words, from the last symbol to the first, written downwards. 32 tokens go
// together as in decode. ⌊x / f⌋ comes from a double: (x + ½) / f lies at least ½ / f off any whole number, far more than
// what a product by the rounded reciprocal is wrong by, and adding 2^52 − ½ rounds to the whole number below.
import { laneselect, MAGIC, MAGIC_HIGH, PACK, swizzle } from "./lanes";
import { ABSENT, ENCODE_ENTRY, ENCODE_TABLE } from "./tables";

const LANES: usize = 32;
/** Least value of a state, and its value before the first symbol is coded. */
const LOW: u32 = 1 << 16;
/**
 * `tables`: encoding tables, one after the other. With `indices` null, `tableOf` holds the table of each row, u16 [rows];
 * else indices hold that of each symbol, u8 [rows][tokens]; three more of both may be read, of which indices are 0. Words go below `end`, where there is room for one a symbol
 * and 8 bytes. Writes `states`, u32 [32]. Returns the address of the first word, or 0 where a symbol has no frequency.
 */
export function encode(
  symbols: usize,
  rows: usize,
  tokens: usize,
  bits: u32,
  tables: usize,
  tableOf: usize,
  indices: usize,
  states: usize,
  end: usize,
): usize {
  for (let lane: usize = 0; lane < LANES; lane++) store<u32>(states + (lane << 2), LOW);
  return bits == 11
    ? encodeRows(11, symbols, rows, tokens, tables, tableOf, indices, states, end)
    : encodeRows(12, symbols, rows, tokens, tables, tableOf, indices, states, end);
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
  states: usize,
  at: usize,
): usize {
  const whole = tokens & ~(LANES - 1);
  absent = 0;
  for (let row = rows; row > 0; row--) {
    const from = symbols + (row - 1) * tokens;
    const table = indices == 0 ? tables + (<usize>load<u16>(tableOf + ((row - 1) << 1)) << ENCODE_TABLE) : tables;
    const numbers = indices == 0 ? <usize>0 : indices + (row - 1) * tokens;
    if (whole != tokens) {
      at = encodeRange(bits, from + whole, tokens - whole, table, numbers == 0 ? <usize>0 : numbers + whole, states, at);
    }
    if (ASC_FEATURE_SIMD) {
      at = numbers == 0
        ? encodeWhole(bits, false, from, whole, table, numbers, states, at)
        : encodeWhole(bits, true, from, whole, table, numbers, states, at);
    } else {
      for (let t = whole; t > 0; t -= LANES) {
        at = encodeRange(bits, from + t - LANES, LANES, table, numbers == 0 ? <usize>0 : numbers + t - LANES, states, at);
      }
    }
  }
  return absent & ABSENT ? 0 : at;
}

/** Up to 32 tokens of a row from lane 0 on, from the last to the first. Returns where the words begin. */
function encodeRange(
  bits: u32,
  symbols: usize,
  count: usize,
  table: usize,
  numbers: usize,
  states: usize,
  at: usize,
): usize {
  if (ASC_FEATURE_SIMD) {
    const base = i32x4.splat(<i32>table), zero = i32x4.splat(0);
    let bad = zero;
    for (let lane = (count - 1) & ~3, more = true; more; lane -= 4) {
      more = lane > 0;
      // Lanes beyond the row keep what they have.
      const off = i32x4.ge_s(i32x4(0, 1, 2, 3), i32x4.splat(<i32>count - <i32>lane));
      const s = v128.load32_zero(symbols + lane);
      const n = numbers == 0 ? zero : v128.load32_zero(numbers + lane);
      const coded = i8x16.shuffle(s, n, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      const a = addresses(i32x4.extend_low_i16x8_u(coded), base);
      const e0 = v128.load(<usize>i32x4.extract_lane(a, 0)), e1 = v128.load(<usize>i32x4.extract_lane(a, 1));
      const e2 = v128.load(<usize>i32x4.extract_lane(a, 2)), e3 = v128.load(<usize>i32x4.extract_lane(a, 3));
      const p = packed(e0, e1, e2, e3), f = i32x4.shr_u(p, 16);
      bad = v128.or(bad, v128.andnot(p, off));
      const old = v128.load(states + (lane << 2));
      const keeps = v128.or(i32x4.gt_s(f, i32x4.shr_u(old, 32 - bits)), off);
      at = give(old, i32x4.bitmask(keeps), at);
      const x = laneselect(old, i32x4.shr_u(old, 16), keeps);
      const y = next(bits, x, f, p, i64x2.shuffle(e0, e1, 0, 2), i64x2.shuffle(e2, e3, 0, 2));
      v128.store(states + (lane << 2), laneselect(old, y, off));
    }
    if (i32x4.bitmask(bad)) absent = ABSENT;
    return at;
  }
  for (let lane = count; lane > 0; lane--) {
    const state = states + ((lane - 1) << 2);
    let entry = table + (<usize>load<u8>(symbols + lane - 1) << ENCODE_ENTRY);
    if (numbers != 0) entry += <usize>load<u8>(numbers + lane - 1) << ENCODE_TABLE;
    const packed = load<u32>(entry, 8);
    const f = packed >> 16;
    absent |= packed;
    let x = load<u32>(state);
    const gives = x >> (32 - bits) >= f;
    store<u16>(at - 2, x);
    at -= <usize>gives << 1;
    x >>= <u32>gives << 4;
    const quotient = <u32>((<f64>x + 0.5) * load<f64>(entry));
    store<u32>(state, x + (packed & 0xffff) + quotient * ((1 << bits) - f));
  }
  return at;
}

/** Addresses of four entries: symbols, with the numbers of their tables above them. */
// @ts-ignore: decorator
@inline
function addresses(coded: v128, table: v128): v128 {
  return i32x4.add(i32x4.shl(coded, <i32>ENCODE_ENTRY), table);
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
  states: usize,
  at: usize,
): usize {
  const base = i32x4.splat(<i32>table);
  let bad = i32x4.splat(0), e0 = bad, e1 = bad, e2 = bad, e3 = bad, p = bad, f = bad, x = bad, keeps = bad;
  for (let t = whole; t > 0;) {
    for (let half: usize = 128; half > 0; half -= 64) {
      t -= 16;
      const s = v128.load(symbols + t);
      const n = indexed ? v128.load(numbers + t) : i32x4.splat(0);
      const low = i8x16.shuffle(s, n, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      const high = i8x16.shuffle(s, n, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      const state = states + half - 64;
      const a3 = addresses(i32x4.extend_high_i16x8_u(high), base);
      const a2 = addresses(i32x4.extend_low_i16x8_u(high), base);
      const a1 = addresses(i32x4.extend_high_i16x8_u(low), base);
      const a0 = addresses(i32x4.extend_low_i16x8_u(low), base);
      e0 = v128.load(<usize>i32x4.extract_lane(a3, 0)), e1 = v128.load(<usize>i32x4.extract_lane(a3, 1));
      e2 = v128.load(<usize>i32x4.extract_lane(a3, 2)), e3 = v128.load(<usize>i32x4.extract_lane(a3, 3));
      p = packed(e0, e1, e2, e3), bad = v128.or(bad, p), f = i32x4.shr_u(p, 16);
      x = v128.load(state, 48), keeps = i32x4.gt_s(f, i32x4.shr_u(x, 32 - bits));
      at = give(x, i32x4.bitmask(keeps), at), x = laneselect(x, i32x4.shr_u(x, 16), keeps);
      v128.store(state, next(bits, x, f, p, i64x2.shuffle(e0, e1, 0, 2), i64x2.shuffle(e2, e3, 0, 2)), 48);
      e0 = v128.load(<usize>i32x4.extract_lane(a2, 0)), e1 = v128.load(<usize>i32x4.extract_lane(a2, 1));
      e2 = v128.load(<usize>i32x4.extract_lane(a2, 2)), e3 = v128.load(<usize>i32x4.extract_lane(a2, 3));
      p = packed(e0, e1, e2, e3), bad = v128.or(bad, p), f = i32x4.shr_u(p, 16);
      x = v128.load(state, 32), keeps = i32x4.gt_s(f, i32x4.shr_u(x, 32 - bits));
      at = give(x, i32x4.bitmask(keeps), at), x = laneselect(x, i32x4.shr_u(x, 16), keeps);
      v128.store(state, next(bits, x, f, p, i64x2.shuffle(e0, e1, 0, 2), i64x2.shuffle(e2, e3, 0, 2)), 32);
      e0 = v128.load(<usize>i32x4.extract_lane(a1, 0)), e1 = v128.load(<usize>i32x4.extract_lane(a1, 1));
      e2 = v128.load(<usize>i32x4.extract_lane(a1, 2)), e3 = v128.load(<usize>i32x4.extract_lane(a1, 3));
      p = packed(e0, e1, e2, e3), bad = v128.or(bad, p), f = i32x4.shr_u(p, 16);
      x = v128.load(state, 16), keeps = i32x4.gt_s(f, i32x4.shr_u(x, 32 - bits));
      at = give(x, i32x4.bitmask(keeps), at), x = laneselect(x, i32x4.shr_u(x, 16), keeps);
      v128.store(state, next(bits, x, f, p, i64x2.shuffle(e0, e1, 0, 2), i64x2.shuffle(e2, e3, 0, 2)), 16);
      e0 = v128.load(<usize>i32x4.extract_lane(a0, 0)), e1 = v128.load(<usize>i32x4.extract_lane(a0, 1));
      e2 = v128.load(<usize>i32x4.extract_lane(a0, 2)), e3 = v128.load(<usize>i32x4.extract_lane(a0, 3));
      p = packed(e0, e1, e2, e3), bad = v128.or(bad, p), f = i32x4.shr_u(p, 16);
      x = v128.load(state, 0), keeps = i32x4.gt_s(f, i32x4.shr_u(x, 32 - bits));
      at = give(x, i32x4.bitmask(keeps), at), x = laneselect(x, i32x4.shr_u(x, 16), keeps);
      v128.store(state, next(bits, x, f, p, i64x2.shuffle(e0, e1, 0, 2), i64x2.shuffle(e2, e3, 0, 2)), 0);
    }
  }
  if (i32x4.bitmask(bad)) absent = ABSENT;
  return at;
}

/** Starts and frequencies of four entries. */
// @ts-ignore: decorator
@inline
function packed(e0: v128, e1: v128, e2: v128, e3: v128): v128 {
  return i64x2.shuffle(i32x4.shuffle(e0, e1, 2, 6, 3, 7), i32x4.shuffle(e2, e3, 2, 6, 3, 7), 0, 2);
}

/** Codes one symbol in each of four lanes; `packed`: starts and frequencies, `r0`, `r1`: reciprocals. */
// @ts-ignore: decorator
@inline
function next(bits: u32, x: v128, f: v128, packed: v128, r0: v128, r1: v128): v128 {
  const high = v128.load(MAGIC_HIGH), magic = v128.load(MAGIC);
  const d0 = f64x2.sub(i32x4.shuffle(x, high, 0, 4, 1, 5), magic);
  const d1 = f64x2.sub(i32x4.shuffle(x, high, 2, 6, 3, 7), magic);
  const q0 = f64x2.add(f64x2.mul(d0, r0), magic), q1 = f64x2.add(f64x2.mul(d1, r1), magic);
  const quotient = i32x4.shuffle(q0, q1, 0, 2, 4, 6);
  // x + start + quotient · (2^bits − f)
  const start = i32x4.shr_u(i32x4.shl(packed, 16), 16);
  const scaled = i32x4.sub(i32x4.shl(quotient, bits), i32x4.mul(quotient, f));
  return i32x4.add(i32x4.add(x, start), scaled);
}

/** Gives away the words of four lanes and returns where the words begin. */
// @ts-ignore: decorator
@inline
function give(x: v128, mask: i32, at: usize): usize {
  v128.store64_lane(at - 8, swizzle(x, v128.load(PACK + (<usize>mask << 4))), 0);
  return at - 8 + (<usize>popcnt(mask) << 1);
}
