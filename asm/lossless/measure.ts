// measure: sums over sampled tokens of rows, in four lanes whatever the build, so that every build gives the same bits.
import { high8, low8 } from "./transpose";

// Constants lie in memory: engines build those in the code anew wherever they stand.
/** A symbol without its sign; the least with an exponent above 0; how many there are below exponent 31. */
const MAGNITUDE: usize = memory.data<u64>([0x7f7f7f7f7f7f7f7f, 0x7f7f7f7f7f7f7f7f], 16);
const LEAST: usize = memory.data<u64>([0x0404040404040404, 0x0404040404040404], 16);
const COUNT: usize = memory.data<u64>([0x7878787878787878, 0x7878787878787878], 16);
/** Exponent and fraction in the upper half of an f32; all but its sign; the middle of what symbol 0 would stand for. */
const UPPER: usize = memory.data<u64>([0x0fe00fe00fe00fe0, 0x0fe00fe00fe00fe0], 16);
const REST: usize = memory.data<u64>([0x7fff7fff7fff7fff, 0x7fff7fff7fff7fff], 16);
const ZEROTH: usize = memory.data<u64>([0x3790379037903790, 0x3790379037903790], 16);

/**
 * sums[row] = Σ x · cos, Σ x · sin, Σ x² (f32) for rows [begin, end): over `groups` groups of four tokens from `first` on,
 * `step` apart, or over all tokens where there are fewer than four (groups = 0). cosines, sines: f32 of each sampled
 * token; null where nothing turns.
 */
export function measure(
  symbols: usize,
  tokens: usize,
  begin: usize,
  end: usize,
  first: usize,
  step: usize,
  groups: usize,
  cosines: usize,
  sines: usize,
  sums: usize,
): void {
  if (ASC_FEATURE_SIMD && groups) {
    if (cosines) measureLanes(true, symbols + first, tokens, begin, end, step, groups, cosines, sines, sums);
    else measureLanes(false, symbols + first, tokens, begin, end, step, groups, 0, 0, sums);
    return;
  }
  for (let row = begin; row < end; row++) {
    measureRow(symbols + row * tokens, first, step, groups ? groups << 2 : tokens, cosines, sines, sums + row * 12);
  }
}

// @ts-ignore: decorator
@inline
function measureLanes(
  turning: bool,
  symbols: usize,
  tokens: usize,
  begin: usize,
  end: usize,
  step: usize,
  groups: usize,
  cosines: usize,
  sines: usize,
  sums: usize,
): void {
  const magnitude = v128.load(MAGNITUDE), least = v128.load(LEAST), count = v128.load(COUNT);
  const upper = v128.load(UPPER), rest = v128.load(REST), zeroth = v128.load(ZEROTH), zero = i32x4.splat(0);
  for (let row = begin; row < end; row++) {
    let at = symbols + row * tokens;
    let c = zero, s = zero, q = zero;
    let group: usize = 0;
    // Four groups at a time: their symbols become values in lanes of 16 bits, the upper halves of f32.
    for (; group + 4 <= groups; group += 4, at += step << 2) {
      let four = v128.load32_lane(at + step, v128.load32_zero(at), 1);
      four = v128.load32_lane(at + 3 * step, v128.load32_lane(at + (step << 1), four, 2), 3);
      const finite = i8x16.lt_u(i8x16.sub(v128.and(four, magnitude), least), count);
      const a = halves(low8(four, zero), upper, rest, zeroth, low8(finite, finite));
      const b = halves(high8(four, zero), upper, rest, zeroth, high8(finite, finite));
      const x0 = v128.shuffle<u16>(zero, a, 0, 8, 1, 9, 2, 10, 3, 11);
      const x1 = v128.shuffle<u16>(zero, a, 4, 12, 5, 13, 6, 14, 7, 15);
      const x2 = v128.shuffle<u16>(zero, b, 0, 8, 1, 9, 2, 10, 3, 11);
      const x3 = v128.shuffle<u16>(zero, b, 4, 12, 5, 13, 6, 14, 7, 15);
      if (turning) {
        const cos = cosines + (group << 4), sin = sines + (group << 4);
        c = more(more(more(more(c, x0, v128.load(cos)), x1, v128.load(cos, 16)), x2, v128.load(cos, 32)), x3, v128.load(cos, 48));
        s = more(more(more(more(s, x0, v128.load(sin)), x1, v128.load(sin, 16)), x2, v128.load(sin, 32)), x3, v128.load(sin, 48));
      } else c = f32x4.add(f32x4.add(f32x4.add(f32x4.add(c, x0), x1), x2), x3);
      q = more(more(more(more(q, x0, x0), x1, x1), x2, x2), x3, x3);
    }
    for (; group < groups; group++, at += step) {
      const one = v128.load32_zero(at);
      const finite = i8x16.lt_u(i8x16.sub(v128.and(one, magnitude), least), count);
      const a = halves(low8(one, zero), upper, rest, zeroth, low8(finite, finite));
      const x = v128.shuffle<u16>(zero, a, 0, 8, 1, 9, 2, 10, 3, 11);
      if (turning) {
        c = more(c, x, v128.load(cosines + (group << 4))), s = more(s, x, v128.load(sines + (group << 4)));
      } else c = f32x4.add(c, x);
      q = more(q, x, x);
    }
    const to = sums + row * 12;
    store<f32>(to, sumOf(c));
    store<f32>(to, sumOf(s), 4);
    store<f32>(to, sumOf(q), 8);
  }
}

/** sum + x · y. */
// @ts-ignore: decorator
@inline
function more(sum: v128, x: v128, y: v128): v128 {
  return f32x4.add(sum, f32x4.mul(x, y));
}

function measureRow(
  from: usize,
  first: usize,
  step: usize,
  count: usize,
  cosines: usize,
  sines: usize,
  to: usize,
): void {
  // Lane k takes every fourth sample from k on.
  let c: f32 = 0, s: f32 = 0, q: f32 = 0, cHalf: f32 = 0, sHalf: f32 = 0, qHalf: f32 = 0;
  for (let lane: usize = 0; lane < 4; lane++) {
    let cLane: f32 = 0, sLane: f32 = 0, qLane: f32 = 0;
    for (let i = lane; i < count; i += 4) {
      const x = value1(<u32>load<u8>(from + first + (i >> 2) * step + lane));
      if (cosines) {
        cLane += x * load<f32>(cosines + (i << 2));
        sLane += x * load<f32>(sines + (i << 2));
      } else cLane += x;
      qLane += x * x;
    }
    // (0 + 1) + (2 + 3)
    if (lane & 1) {
      cHalf += cLane, sHalf += sLane, qHalf += qLane;
      if (lane == 1) c = cHalf, s = sHalf, q = qHalf;
      else c += cHalf, s += sHalf, q += qHalf;
    } else cHalf = cLane, sHalf = sLane, qHalf = qLane;
  }
  store<f32>(to, c);
  store<f32>(to, s, 4);
  store<f32>(to, q, 8);
}

/** (0 + 1) + (2 + 3). */
// @ts-ignore: decorator
@inline
function sumOf(v: v128): f32 {
  const low = f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1);
  return low + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

// The middle of what a symbol stands for: exponent 16 is 1, the bias of f32 less 16 is 111; exponents 0 and 31 are 0.

/** Upper halves of the values of symbols in lanes of 16 bits; `finite`: all ones where exponents are not 0 or 31. */
// @ts-ignore: decorator
@inline
function halves(symbols: v128, upper: v128, rest: v128, zeroth: v128, finite: v128): v128 {
  const sign = v128.andnot(i16x8.shl(symbols, 8), rest);
  return v128.and(v128.or(i16x8.add(v128.and(i16x8.shl(symbols, 5), upper), zeroth), sign), finite);
}

// @ts-ignore: decorator
@inline
function value1(symbol: u32): f32 {
  const magnitude = symbol & 127;
  if (magnitude - 4 >= 120) return 0;
  return reinterpret<f32>(((magnitude << 21) + ((111 << 23) | (1 << 20))) | ((symbol & 128) << 24));
}
