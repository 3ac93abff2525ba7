// decode: rANS words → symbols u8 [rows][tokens]. 32 tokens go together, one of each lane: eight vectors of four states
// stay in registers over all rows. What the lanes take from the stream lies in their order, so each two vectors read the
// next eight words and spread as many as they need. Pairs are a step apart, so that what one waits for (entries, product,
// mask, words) has work of another in between. Nothing in the loops depends on data but addresses; the end of the stream
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
 * Rows [begin, end) go to `out`: all at once, or in calls one after the other, between which trellis and `states`, u32
 * [33], stay as they are. What is wrong with the stream the last call tells, or one before.
 */
export function decode(
  bytes: usize,
  length: usize,
  begin: usize,
  end: usize,
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
  const stop = bytes + length, count = end - begin;
  let at: usize;
  if (begin == 0) {
    memory.copy(states, bytes, lanes << 2);
    for (let lane: usize = 0; lane < lanes; lane++) {
      if (load<u32>(states + (lane << 2)) < LOW) return BAD_STATE;
    }
    // Lanes without tokens run along with state 0 in the vectors, so they must not be left over from before.
    memory.fill(states + (lanes << 2), 0, (LANES - lanes) << 2);
    if (classes != 0) memory.fill(trellis, 0, tokens + 3);
    at = bytes + (lanes << 2);
  } else {
    at = load<u32>(states, LANES << 2);
  }
  if (classes == 0) {
    const own = choice + (begin << 1);
    at = bits == 11
      ? decodePlain(11, at, stop, count, tokens, tables, own, states, out)
      : decodePlain(12, at, stop, count, tokens, tables, own, states, out);
  } else {
    const own = classes + (begin << 4);
    at = bits == 11
      ? decodeTrellis(11, at, stop, count, tokens, tables, choice, own, next, trellis, states, out)
      : decodeTrellis(12, at, stop, count, tokens, tables, choice, own, next, trellis, states, out);
  }
  if (at > stop) return TRUNCATED;
  if (end < rows) {
    store<u32>(states, at, LANES << 2);
    return DONE;
  }
  if (at < stop) return NOT_AT_END;
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

/** All ones in the lanes of two vectors of states that need a word, u16 [8]. */
// @ts-ignore: decorator
@inline
function needs(x: v128, y: v128): v128 {
  return i16x8.eq(i16x8.narrow_i32x4_u(i32x4.shr_u(x, 16), i32x4.shr_u(y, 16)), i16x8.splat(0));
}

/** The words of the lanes in a mask of eight, u16 [8]; 0 elsewhere. */
// @ts-ignore: decorator
@inline
function wordsOf(mask: i32, at: usize): v128 {
  return swizzle(v128.load(at), v128.load(SPREAD + (<usize>mask << 4)));
}

/** The states of two vectors where they need a word, which are of 16 bits there, u16 [8]; 0 elsewhere. */
// @ts-ignore: decorator
@inline
function halves(x: v128, y: v128, low: v128): v128 {
  return v128.and(i16x8.narrow_i32x4_u(x, y), low);
}

// A state that takes a word, state · 2^16 + word, is no less than before, and what stands for the others is 0: the greater
// one is right in every lane, and costs less than choosing.

/** Takes words into the first of two vectors of states. */
// @ts-ignore: decorator
@inline
function refillFirst(x: v128, halves: v128, words: v128): v128 {
  return i32x4.max_u(x, i8x16.shuffle(words, halves, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23));
}

/** Takes words into the second one. */
// @ts-ignore: decorator
@inline
function refillSecond(x: v128, halves: v128, words: v128): v128 {
  return i32x4.max_u(x, i8x16.shuffle(words, halves, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31));
}

/** Bytes of the words that a mask takes. */
// @ts-ignore: decorator
@inline
function wordBytes(mask: i32): usize {
  return <usize>popcnt(mask) << 1;
}

/** Symbols of eight entries, u16 [8]. */
// @ts-ignore: decorator
@inline
function symbolsOf(a: v128, b: v128): v128 {
  const byte = v128.load(BYTE);
  return i16x8.narrow_i32x4_u(v128.and(a, byte), v128.and(b, byte));
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
        const e0 = entries(bits, x0, base), e1 = entries(bits, x1, base), s0 = symbolsOf(e0, e1);
        x0 = step(bits, x0, e0), x1 = step(bits, x1, e1);
        const e2 = entries(bits, x2, base), e3 = entries(bits, x3, base), s2 = symbolsOf(e2, e3);
        x2 = step(bits, x2, e2), x3 = step(bits, x3, e3);
        v128.store(out, i8x16.narrow_i16x8_u(s0, s2));
        const n0 = needs(x0, x1), m0 = i16x8.bitmask(n0);
        const h0 = halves(x0, x1, n0), w0 = wordsOf(m0, at);
        x0 = refillFirst(x0, h0, w0), x1 = refillSecond(x1, h0, w0);
        at += wordBytes(m0);
        const e4 = entries(bits, x4, base), e5 = entries(bits, x5, base), s4 = symbolsOf(e4, e5);
        x4 = step(bits, x4, e4), x5 = step(bits, x5, e5);
        const n2 = needs(x2, x3), m2 = i16x8.bitmask(n2);
        const h2 = halves(x2, x3, n2), w2 = wordsOf(m2, at);
        x2 = refillFirst(x2, h2, w2), x3 = refillSecond(x3, h2, w2);
        at += wordBytes(m2);
        const e6 = entries(bits, x6, base), e7 = entries(bits, x7, base), s6 = symbolsOf(e6, e7);
        x6 = step(bits, x6, e6), x7 = step(bits, x7, e7);
        v128.store(out, i8x16.narrow_i16x8_u(s4, s6), 16);
        const n4 = needs(x4, x5), m4 = i16x8.bitmask(n4);
        const h4 = halves(x4, x5, n4), w4 = wordsOf(m4, at);
        x4 = refillFirst(x4, h4, w4), x5 = refillSecond(x5, h4, w4);
        at += wordBytes(m4);
        const n6 = needs(x6, x7), m6 = i16x8.bitmask(n6);
        const h6 = halves(x6, x7, n6), w6 = wordsOf(m6, at);
        x6 = refillFirst(x6, h6, w6), x7 = refillSecond(x7, h6, w6);
        at += wordBytes(m6);
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
  const low = v128.and(needs(y, y), i16x8.narrow_i32x4_s(on, i32x4.splat(0)));
  const mask = i16x8.bitmask(low);
  v128.store(state, laneselect(refillFirst(y, halves(y, y, low), wordsOf(mask, at)), x, on));
  const symbols = symbolsOf(e, e);
  v128.store32_lane(out, i8x16.narrow_i16x8_u(symbols, symbols), 0);
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
        const t0 = v128.load(trellis + t), k0 = tables16(doubled, v128.load(kinds + t), t0);
        const e0 = entries(bits, x0, bases(bits, base, k0, PLACES));
        const e1 = entries(bits, x1, bases(bits, base, k0, PLACES + 16));
        const s0 = symbolsOf(e0, e1);
        x0 = step(bits, x0, e0), x1 = step(bits, x1, e1);
        const e2 = entries(bits, x2, bases(bits, base, k0, PLACES + 32));
        const e3 = entries(bits, x3, bases(bits, base, k0, PLACES + 48));
        const s2 = symbolsOf(e2, e3);
        x2 = step(bits, x2, e2), x3 = step(bits, x3, e3);
        const y0 = i8x16.narrow_i16x8_u(s0, s2);
        v128.store(out, y0);
        v128.store(trellis + t, advance16(list, t0, y0));
        const n0 = needs(x0, x1), m0 = i16x8.bitmask(n0);
        const h0 = halves(x0, x1, n0), w0 = wordsOf(m0, at);
        x0 = refillFirst(x0, h0, w0), x1 = refillSecond(x1, h0, w0);
        at += wordBytes(m0);
        const t1 = v128.load(trellis + t, 16), k1 = tables16(doubled, v128.load(kinds + t, 16), t1);
        const e4 = entries(bits, x4, bases(bits, base, k1, PLACES));
        const e5 = entries(bits, x5, bases(bits, base, k1, PLACES + 16));
        const s4 = symbolsOf(e4, e5);
        x4 = step(bits, x4, e4), x5 = step(bits, x5, e5);
        const n2 = needs(x2, x3), m2 = i16x8.bitmask(n2);
        const h2 = halves(x2, x3, n2), w2 = wordsOf(m2, at);
        x2 = refillFirst(x2, h2, w2), x3 = refillSecond(x3, h2, w2);
        at += wordBytes(m2);
        const e6 = entries(bits, x6, bases(bits, base, k1, PLACES + 32));
        const e7 = entries(bits, x7, bases(bits, base, k1, PLACES + 48));
        const s6 = symbolsOf(e6, e7);
        x6 = step(bits, x6, e6), x7 = step(bits, x7, e7);
        const y1 = i8x16.narrow_i16x8_u(s4, s6);
        v128.store(out, y1, 16);
        v128.store(trellis + t, advance16(list, t1, y1), 16);
        const n4 = needs(x4, x5), m4 = i16x8.bitmask(n4);
        const h4 = halves(x4, x5, n4), w4 = wordsOf(m4, at);
        x4 = refillFirst(x4, h4, w4), x5 = refillSecond(x5, h4, w4);
        at += wordBytes(m4);
        const n6 = needs(x6, x7), m6 = i16x8.bitmask(n6);
        const h6 = halves(x6, x7, n6), w6 = wordsOf(m6, at);
        x6 = refillFirst(x6, h6, w6), x7 = refillSecond(x7, h6, w6);
        at += wordBytes(m6);
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
