// Choice of reference and mode for tokens [begin, end), each quantized at once, so that later ones can refer to it.
import { quantizeToken } from "./quantize";
import { predict, Work } from "./work";

const SIMILAR_COMPONENTS: u32 = 64;
const PROXY_COMPONENTS: u32 = 256;
const SIMILAR_TOKENS = 4;
const MODES: u32 = 5;
const PROXY_BUCKETS = 160;

let token0 = -1, token1 = -1, token2 = -1, token3 = -1;

/** Finds the (at most four) earlier tokens most like token t, nearest first. */
function findSimilar(w: Work, t: u32): void {
  const C = w.components;
  const n = min(SIMILAR_COMPONENTS, C);
  const row = <usize> w.rows + (<usize> (t * C) << 2);
  let d0 = i32.MAX_VALUE, d1 = i32.MAX_VALUE, d2 = i32.MAX_VALUE, d3 = i32.MAX_VALUE;
  token0 = token1 = token2 = token3 = -1;
  for (let u: u32 = 0; u < t; u++) {
    const other = <usize> w.reconstruction + (<usize> (u * C) << 1);
    let distance = 0;
    let c: u32 = 0;
    if (ASC_FEATURE_SIMD) {
      let sum = i32x4.splat(0);
      for (; c + 4 <= n; c += 4) {
        const L = i32x4.shl(v128.load_ext<i16>(other + (c << 1)), 2);
        sum = i32x4.add(sum, i32x4.abs(i32x4.sub(v128.load(row + (c << 2)), L)));
      }
      distance = i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1) + i32x4.extract_lane(sum, 2) +
        i32x4.extract_lane(sum, 3);
    }
    for (; c < n; c++) distance += abs(load<i32>(row + (c << 2)) - 4 * <i32> load<i16>(other + (c << 1)));
    if (distance >= d3) continue;
    if (distance >= d2) {
      d3 = distance;
      token3 = u;
      continue;
    }
    d3 = d2;
    token3 = token2;
    if (distance >= d1) {
      d2 = distance;
      token2 = u;
      continue;
    }
    d2 = d1;
    token2 = token1;
    if (distance >= d0) {
      d1 = distance;
      token1 = u;
      continue;
    }
    d1 = d0;
    token1 = token0;
    d0 = distance;
    token0 = u;
  }
}

// @ts-ignore: decorator
@inline
function bucketOf(magnitude: i32): i32 {
  if (magnitude < 64) return magnitude;
  const top = 31 - clz(magnitude);
  return min(PROXY_BUCKETS - 1, 64 + 8 * (top - 6) + ((magnitude >> (top - 3)) & 7));
}

/** What token t is going to cost in a mode and with a reference (−1: none), on the leading components. */
function proxy(w: Work, t: u32, ref: i32, mode: u32, best: i32): i32 {
  const C = w.components;
  const n = min(PROXY_COMPONENTS, C);
  const row = <usize> w.rows + (<usize> (t * C) << 2);
  const base = <usize> w.base + mode * C;
  const rho = <usize> w.rho32 + mode * C;
  const other = <usize> w.reconstruction + (<usize> (<u32> max(0, ref) * C) << 1);
  let cost = 0;
  for (let c: u32 = 0; c < n; c++) {
    const p = ref < 0 ? 0 : predict(<i32> load<i8>(rho + c), <i32> load<i16>(other + (c << 1)));
    const bucket = bucketOf(abs(load<i32>(row + (c << 2)) - 4 * p));
    cost += load<i32>(<usize> w.costs + (<usize> (<i32> load<u8>(base + c) * PROXY_BUCKETS + bucket) << 2));
    if ((c & 15) == 15 && cost >= best) return cost;
  }
  return cost;
}

/** Chooses reference and mode of tokens [begin, end) and quantizes them. */
export function predictTokens(work: usize, begin: u32, end: u32): void {
  const w = changetype<Work>(work);
  for (let t = begin; t < end; t++) {
    findSimilar(w, t);
    let best = i32.MAX_VALUE, bestRef = -1;
    let bestMode: u32 = 0;
    for (let candidate = -2; candidate < SIMILAR_TOKENS; candidate++) {
      let ref = -1;
      if (candidate == -1) ref = <i32> t - 1;
      else if (candidate == 0) ref = token0;
      else if (candidate == 1) ref = token1;
      else if (candidate == 2) ref = token2;
      else if (candidate == 3) ref = token3;
      if (candidate > -2 && ref < 0) continue;
      for (let mode: u32 = 0; mode < MODES; mode++) {
        const cost = proxy(w, t, ref, mode, best);
        if (cost >= best) continue;
        best = cost;
        bestRef = ref;
        bestMode = mode;
      }
    }
    store<i16>(<usize> w.refs + (t << 1), <i16> bestRef);
    store<u8>(<usize> w.modes + t, <u8> bestMode);
    quantizeToken(w, t);
  }
}
