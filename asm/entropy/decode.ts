// decode: rANS words → symbols u8 [rows][tokens]. 32 tokens go together, one of each lane: eight vectors of four states
// stay in registers over all rows. What the lanes take from the stream lies in their order, so each vector reads the next
// four words and spreads as many as it needs. Nothing in the loops depends on data but addresses; the end of the stream
// is checked every 32 symbols, hence the host leaves PADDING bytes behind it.
import { advance1, advance16, table1, tables16 } from "./contexts";
import { BYTE, PLACES, laneselect, SPREAD, swizzle } from "./lanes";

/** What decode returns. */
const DONE: i32 = 0;
const BAD_STATE: i32 = 1;
const TRUNCATED: i32 = 2;
const NOT_AT_END: i32 = 3;

/** Least value of a state, and its value before the first symbol is coded. */
const LOW: u32 = 1 << 16;
const LANES: usize = 32;
/** Addresses of four entries, which engines load from a fixed place faster than they take them out of a vector. */
const ADDRESSES: usize = memory.data(16, 16);

/**
 * `tables`: decoding tables, one after the other. With `classes` null, `choice` holds the table of each row, u16 [rows];
 * else it holds the kinds of the tokens, u8 [tokens], and classes are u8 [rows][16], `next` u8 [16], `trellis` u8 [tokens]
 * of scratch. Of kinds there are three more, 0; scratch and output may be written three bytes beyond their ends.
 * `states`: u32 [32] of scratch.
 */
export function decode(
  bytes: usize,
  length: usize,
  rows: usize,
  tokens: usize,
  bits: u32,
  tables: usize,
  choice: usize,
  classes: usize,
  next: usize,
  trellis: usize,
  states: usize,
  out: usize,
): i32 {
  const lanes: usize = rows == 0 ? 0 : min(tokens, LANES);
  const end = bytes + length;
  memory.copy(states, bytes, lanes << 2);
  for (let lane: usize = 0; lane < lanes; lane++) {
    if (load<u32>(states + (lane << 2)) < LOW) return BAD_STATE;
  }
  // Lanes without tokens run along with state 0 in the vectors, so they must not be left over from before.
  memory.fill(states + (lanes << 2), 0, (LANES - lanes) << 2);
  const from = bytes + (lanes << 2);
  let at: usize;
  if (classes == 0) {
    at = bits == 11
      ? decodePlain(11, from, end, rows, tokens, tables, choice, states, out)
      : decodePlain(12, from, end, rows, tokens, tables, choice, states, out);
  } else {
    memory.fill(trellis, 0, tokens + 3);
    at = bits == 11
      ? decodeTrellis(11, from, end, rows, tokens, tables, choice, classes, next, trellis, states, out)
      : decodeTrellis(12, from, end, rows, tokens, tables, choice, classes, next, trellis, states, out);
  }
  if (at > end) return TRUNCATED;
  if (at < end) return NOT_AT_END;
  for (let lane: usize = 0; lane < lanes; lane++) {
    if (load<u32>(states + (lane << 2)) != LOW) return NOT_AT_END;
  }
  return DONE;
}

/** Entries of four slots; `base` holds the lanes' tables. */
// @ts-ignore: decorator
@inline
function entries(bits: u32, x: v128, base: v128): v128 {
  // Two shifts take the low bits times 4: engines build a mask anew each time.
  const at = i32x4.add(i32x4.shr_u(i32x4.shl(x, 32 - bits), 30 - bits), base);
  v128.store(ADDRESSES, at);
  let e = v128.load32_zero(<usize>load<u32>(ADDRESSES));
  e = v128.load32_lane(<usize>load<u32>(ADDRESSES, 4), e, 1);
  e = v128.load32_lane(<usize>load<u32>(ADDRESSES, 8), e, 2);
  return v128.load32_lane(<usize>load<u32>(ADDRESSES, 12), e, 3);
}

/** Four states after their symbols, before words are taken. */
// @ts-ignore: decorator
@inline
function step(bits: u32, x: v128, e: v128): v128 {
  const quotient = i32x4.shr_u(x, bits);
  const f = i32x4.shr_u(i32x4.shl(e, 12), 20);
  const rest = i32x4.shr_u(e, 20);
  return i32x4.add(i32x4.mul(quotient, f), bits == 12 ? i32x4.add(quotient, rest) : rest);
}

/** All ones in the lanes that need a word. */
// @ts-ignore: decorator
@inline
function needs(x: v128): v128 {
  return i32x4.eq(i32x4.shr_u(x, 16), i32x4.splat(0));
}

/** The words of the lanes in a mask of eight, u16 [8]. */
// @ts-ignore: decorator
@inline
function wordsOf(mask: i32, at: usize): v128 {
  return swizzle(v128.load(at), v128.load(SPREAD + (<usize>mask << 4)));
}

/** Takes words where they are needed. */
// @ts-ignore: decorator
@inline
function refill(x: v128, low: v128, words: v128): v128 {
  return v128.or(laneselect(i32x4.shl(x, 16), x, low), words);
}

/** Bytes of the words that a mask takes. */
// @ts-ignore: decorator
@inline
function wordBytes(mask: i32): usize {
  return <usize>popcnt(mask) << 1;
}

/** Symbols of sixteen entries. */
// @ts-ignore: decorator
@inline
function symbols16(a: v128, b: v128, c: v128, d: v128): v128 {
  const byte = v128.load(BYTE);
  const low = i16x8.narrow_i32x4_u(v128.and(a, byte), v128.and(b, byte));
  const high = i16x8.narrow_i32x4_u(v128.and(c, byte), v128.and(d, byte));
  return i8x16.narrow_i16x8_u(low, high);
}

// @ts-ignore: decorator
@inline
function decodePlain(
  bits: u32,
  at: usize,
  end: usize,
  rows: usize,
  tokens: usize,
  tables: usize,
  tableOf: usize,
  states: usize,
  out: usize,
): usize {
  const whole = tokens & ~(LANES - 1);
  if (ASC_FEATURE_SIMD) {
    let x0 = v128.load(states), x1 = v128.load(states, 16), x2 = v128.load(states, 32), x3 = v128.load(states, 48);
    let x4 = v128.load(states, 64), x5 = v128.load(states, 80), x6 = v128.load(states, 96);
    let x7 = v128.load(states, 112);
    for (let row: usize = 0; row < rows; row++) {
      const table = tables + (<usize>load<u16>(tableOf + (row << 1)) << (bits + 2));
      const base = i32x4.splat(<i32>table);
      for (const stop = out + whole; out < stop; out += LANES) {
        const e0 = entries(bits, x0, base), e1 = entries(bits, x1, base);
        x0 = step(bits, x0, e0), x1 = step(bits, x1, e1);
        const n0 = needs(x0), n1 = needs(x1);
        const m0 = i32x4.bitmask(n0) | (i32x4.bitmask(n1) << 4), w0 = wordsOf(m0, at);
        at += wordBytes(m0);
        x0 = refill(x0, n0, i32x4.extend_low_i16x8_u(w0));
        x1 = refill(x1, n1, i32x4.extend_high_i16x8_u(w0));
        const e2 = entries(bits, x2, base), e3 = entries(bits, x3, base);
        x2 = step(bits, x2, e2), x3 = step(bits, x3, e3);
        const n2 = needs(x2), n3 = needs(x3);
        const m2 = i32x4.bitmask(n2) | (i32x4.bitmask(n3) << 4), w2 = wordsOf(m2, at);
        at += wordBytes(m2);
        x2 = refill(x2, n2, i32x4.extend_low_i16x8_u(w2));
        x3 = refill(x3, n3, i32x4.extend_high_i16x8_u(w2));
        v128.store(out, symbols16(e0, e1, e2, e3));
        const e4 = entries(bits, x4, base), e5 = entries(bits, x5, base);
        x4 = step(bits, x4, e4), x5 = step(bits, x5, e5);
        const n4 = needs(x4), n5 = needs(x5);
        const m4 = i32x4.bitmask(n4) | (i32x4.bitmask(n5) << 4), w4 = wordsOf(m4, at);
        at += wordBytes(m4);
        x4 = refill(x4, n4, i32x4.extend_low_i16x8_u(w4));
        x5 = refill(x5, n5, i32x4.extend_high_i16x8_u(w4));
        const e6 = entries(bits, x6, base), e7 = entries(bits, x7, base);
        x6 = step(bits, x6, e6), x7 = step(bits, x7, e7);
        const n6 = needs(x6), n7 = needs(x7);
        const m6 = i32x4.bitmask(n6) | (i32x4.bitmask(n7) << 4), w6 = wordsOf(m6, at);
        at += wordBytes(m6);
        x6 = refill(x6, n6, i32x4.extend_low_i16x8_u(w6));
        x7 = refill(x7, n7, i32x4.extend_high_i16x8_u(w6));
        v128.store(out, symbols16(e4, e5, e6, e7), 16);
        if (at > end) return at;
      }
      if (whole != tokens) {
        storeStates(states, x0, x1, x2, x3, x4, x5, x6, x7);
        at = plainRange(bits, at, table, states, out, tokens - whole);
        x0 = v128.load(states), x1 = v128.load(states, 16), x2 = v128.load(states, 32), x3 = v128.load(states, 48);
        x4 = v128.load(states, 64), x5 = v128.load(states, 80), x6 = v128.load(states, 96);
        x7 = v128.load(states, 112);
        out += tokens - whole;
        if (at > end) return at;
      }
    }
    storeStates(states, x0, x1, x2, x3, x4, x5, x6, x7);
    return at;
  }
  for (let row: usize = 0; row < rows; row++) {
    const table = tables + (<usize>load<u16>(tableOf + (row << 1)) << (bits + 2));
    for (let t: usize = 0; t < tokens; t += LANES) {
      const count = min(LANES, tokens - t);
      at = plainRange(bits, at, table, states, out, count);
      out += count;
      if (at > end) return at;
    }
  }
  return at;
}

// @ts-ignore: decorator
@inline
function storeStates(
  states: usize,
  x0: v128,
  x1: v128,
  x2: v128,
  x3: v128,
  x4: v128,
  x5: v128,
  x6: v128,
  x7: v128,
): void {
  v128.store(states, x0), v128.store(states, x1, 16), v128.store(states, x2, 32), v128.store(states, x3, 48);
  v128.store(states, x4, 64), v128.store(states, x5, 80), v128.store(states, x6, 96), v128.store(states, x7, 112);
}

/** All ones in the lanes of a vector from `lane` on that are below `count`. */
// @ts-ignore: decorator
@inline
function active(lane: usize, count: usize): v128 {
  return i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(<i32>count - <i32>lane));
}

/**
 * Four lanes of an incomplete group: puts the states of the lanes in `on`, stores the four symbols, and returns where the
 * stream goes on.
 */
// @ts-ignore: decorator
@inline
function stepFour(bits: u32, at: usize, state: usize, base: v128, on: v128, out: usize): usize {
  const x = v128.load(state);
  const e = entries(bits, x, base);
  const y = step(bits, x, e);
  const low = v128.and(needs(y), on);
  const mask = i32x4.bitmask(low);
  v128.store(state, laneselect(refill(y, low, i32x4.extend_low_i16x8_u(wordsOf(mask, at))), x, on));
  v128.store32_lane(out, symbols16(e, e, e, e), 0);
  return at + wordBytes(mask);
}

/** Up to 32 tokens of a row from lane 0 on. May write 3 bytes too many. Returns where the stream goes on. */
function plainRange(bits: u32, at: usize, table: usize, states: usize, out: usize, count: usize): usize {
  if (ASC_FEATURE_SIMD) {
    const base = i32x4.splat(<i32>table);
    for (let lane: usize = 0; lane < count; lane += 4) {
      at = stepFour(bits, at, states + (lane << 2), base, active(lane, count), out + lane);
    }
    return at;
  }
  for (let lane: usize = 0; lane < count; lane++) {
    const state = states + (lane << 2);
    const x = load<u32>(state);
    const e = load<u32>(table + ((x & ((1 << bits) - 1)) << 2));
    at = advanceState(bits, at, state, x, e);
    store<u8>(out + lane, e);
  }
  return at;
}

/** Puts a lane's next state and returns where the stream goes on. */
// @ts-ignore: decorator
@inline
function advanceState(bits: u32, at: usize, state: usize, x: u32, e: u32): usize {
  const y = (x >> bits) * (((e >> 8) & 0xfff) + (bits - 11)) + (e >> 20);
  const needs = y < LOW;
  store<u32>(state, select<u32>((y << 16) | <u32>load<u16>(at), y, needs));
  return at + (<usize>needs << 1);
}

/** Tables of lanes 4 · quarter … of sixteen table numbers, as addresses. */
// @ts-ignore: decorator
@inline
function bases(bits: u32, tables: v128, numbers: v128, places: usize): v128 {
  return i32x4.add(tables, i32x4.shl(swizzle(numbers, v128.load(places)), bits + 2 - 8));
}

// @ts-ignore: decorator
@inline
function decodeTrellis(
  bits: u32,
  at: usize,
  end: usize,
  rows: usize,
  tokens: usize,
  tables: usize,
  kinds: usize,
  classes: usize,
  next: usize,
  trellis: usize,
  states: usize,
  out: usize,
): usize {
  const whole = tokens & ~(LANES - 1);
  if (ASC_FEATURE_SIMD) {
    let x0 = v128.load(states), x1 = v128.load(states, 16), x2 = v128.load(states, 32), x3 = v128.load(states, 48);
    let x4 = v128.load(states, 64), x5 = v128.load(states, 80), x6 = v128.load(states, 96);
    let x7 = v128.load(states, 112);
    const list = v128.load(next), base = i32x4.splat(<i32>tables);
    for (let row: usize = 0; row < rows; row++, classes += 16) {
      const c = v128.load(classes), doubled = i8x16.add(c, c);
      for (let t: usize = 0; t < whole; t += LANES, out += LANES) {
        const s0 = v128.load(trellis + t);
        const k0 = tables16(doubled, v128.load(kinds + t), s0);
        const e0 = entries(bits, x0, bases(bits, base, k0, PLACES)), e1 = entries(bits, x1, bases(bits, base, k0, PLACES + 16));
        x0 = step(bits, x0, e0), x1 = step(bits, x1, e1);
        const n0 = needs(x0), n1 = needs(x1);
        const m0 = i32x4.bitmask(n0) | (i32x4.bitmask(n1) << 4), w0 = wordsOf(m0, at);
        at += wordBytes(m0);
        x0 = refill(x0, n0, i32x4.extend_low_i16x8_u(w0));
        x1 = refill(x1, n1, i32x4.extend_high_i16x8_u(w0));
        const e2 = entries(bits, x2, bases(bits, base, k0, PLACES + 32)), e3 = entries(bits, x3, bases(bits, base, k0, PLACES + 48));
        x2 = step(bits, x2, e2), x3 = step(bits, x3, e3);
        const n2 = needs(x2), n3 = needs(x3);
        const m2 = i32x4.bitmask(n2) | (i32x4.bitmask(n3) << 4), w2 = wordsOf(m2, at);
        at += wordBytes(m2);
        x2 = refill(x2, n2, i32x4.extend_low_i16x8_u(w2));
        x3 = refill(x3, n3, i32x4.extend_high_i16x8_u(w2));
        const y0 = symbols16(e0, e1, e2, e3);
        v128.store(out, y0);
        v128.store(trellis + t, advance16(list, s0, y0));
        const s1 = v128.load(trellis + t, 16);
        const k1 = tables16(doubled, v128.load(kinds + t, 16), s1);
        const e4 = entries(bits, x4, bases(bits, base, k1, PLACES)), e5 = entries(bits, x5, bases(bits, base, k1, PLACES + 16));
        x4 = step(bits, x4, e4), x5 = step(bits, x5, e5);
        const n4 = needs(x4), n5 = needs(x5);
        const m4 = i32x4.bitmask(n4) | (i32x4.bitmask(n5) << 4), w4 = wordsOf(m4, at);
        at += wordBytes(m4);
        x4 = refill(x4, n4, i32x4.extend_low_i16x8_u(w4));
        x5 = refill(x5, n5, i32x4.extend_high_i16x8_u(w4));
        const e6 = entries(bits, x6, bases(bits, base, k1, PLACES + 32)), e7 = entries(bits, x7, bases(bits, base, k1, PLACES + 48));
        x6 = step(bits, x6, e6), x7 = step(bits, x7, e7);
        const n6 = needs(x6), n7 = needs(x7);
        const m6 = i32x4.bitmask(n6) | (i32x4.bitmask(n7) << 4), w6 = wordsOf(m6, at);
        at += wordBytes(m6);
        x6 = refill(x6, n6, i32x4.extend_low_i16x8_u(w6));
        x7 = refill(x7, n7, i32x4.extend_high_i16x8_u(w6));
        const y1 = symbols16(e4, e5, e6, e7);
        v128.store(out, y1, 16);
        v128.store(trellis + t, advance16(list, s1, y1), 16);
        if (at > end) return at;
      }
      if (whole != tokens) {
        storeStates(states, x0, x1, x2, x3, x4, x5, x6, x7);
        const count = tokens - whole;
        at = trellisRange(bits, at, tables, kinds + whole, classes, next, trellis + whole, states, out, count);
        x0 = v128.load(states), x1 = v128.load(states, 16), x2 = v128.load(states, 32), x3 = v128.load(states, 48);
        x4 = v128.load(states, 64), x5 = v128.load(states, 80), x6 = v128.load(states, 96);
        x7 = v128.load(states, 112);
        out += count;
        if (at > end) return at;
      }
    }
    storeStates(states, x0, x1, x2, x3, x4, x5, x6, x7);
    return at;
  }
  for (let row: usize = 0; row < rows; row++, classes += 16) {
    for (let t: usize = 0; t < tokens; t += LANES) {
      const count = min(LANES, tokens - t);
      at = trellisRange(bits, at, tables, kinds + t, classes, next, trellis + t, states, out, count);
      out += count;
      if (at > end) return at;
    }
  }
  return at;
}

/** As plainRange with trellis contexts. */
function trellisRange(
  bits: u32,
  at: usize,
  tables: usize,
  kinds: usize,
  classes: usize,
  next: usize,
  trellis: usize,
  states: usize,
  out: usize,
  count: usize,
): usize {
  if (ASC_FEATURE_SIMD) {
    const base = i32x4.splat(<i32>tables), list = v128.load(next), c = v128.load(classes), doubled = i8x16.add(c, c);
    for (let lane: usize = 0; lane < count; lane += 4) {
      const s = v128.load32_zero(trellis + lane);
      const numbers = tables16(doubled, v128.load32_zero(kinds + lane), s);
      const four = bases(bits, base, numbers, PLACES);
      at = stepFour(bits, at, states + (lane << 2), four, active(lane, count), out + lane);
      v128.store32_lane(trellis + lane, advance16(list, s, v128.load32_zero(out + lane)), 0);
    }
    return at;
  }
  for (let lane: usize = 0; lane < count; lane++) {
    const state = states + (lane << 2);
    const x = load<u32>(state);
    const s = <u32>load<u8>(trellis + lane);
    const table = tables + (<usize>table1(classes, load<u8>(kinds + lane), s) << (bits + 2));
    const e = load<u32>(table + ((x & ((1 << bits) - 1)) << 2));
    at = advanceState(bits, at, state, x, e);
    store<u8>(out + lane, e);
    store<u8>(trellis + lane, advance1(next, s, e & 0xff));
  }
  return at;
}
