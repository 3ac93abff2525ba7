// measure: sums over sampled tokens of rows, in four lanes whatever the build, so that every build gives the same bits.

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
  for (let row = begin; row < end; row++) {
    const from = symbols + row * tokens;
    const to = sums + row * 12;
    if (ASC_FEATURE_SIMD && groups) {
      let c = f32x4.splat(0), s = f32x4.splat(0), q = f32x4.splat(0);
      for (let group: usize = 0, at = from + first; group < groups; group++, at += step) {
        const bytes = v128.load32_zero(at);
        const x = valueOf(i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(bytes)));
        if (cosines) {
          c = f32x4.add(c, f32x4.mul(x, v128.load(cosines + (group << 4))));
          s = f32x4.add(s, f32x4.mul(x, v128.load(sines + (group << 4))));
        } else c = f32x4.add(c, x);
        q = f32x4.add(q, f32x4.mul(x, x));
      }
      store<f32>(to, sumOf(c));
      store<f32>(to, sumOf(s), 4);
      store<f32>(to, sumOf(q), 8);
    } else measureRow(from, first, step, groups ? groups << 2 : tokens, cosines, sines, to);
  }
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

// @ts-ignore: decorator
@inline
function valueOf(symbols: v128): v128 {
  const magnitude = v128.and(symbols, i32x4.splat(127));
  const bits = i32x4.add(i32x4.shl(magnitude, 21), i32x4.splat((111 << 23) | (1 << 20)));
  const sign = i32x4.shl(v128.and(symbols, i32x4.splat(128)), 24);
  const finite = i32x4.lt_u(i32x4.sub(magnitude, i32x4.splat(4)), i32x4.splat(120));
  return v128.and(v128.or(bits, sign), finite);
}

// @ts-ignore: decorator
@inline
function value1(symbol: u32): f32 {
  const magnitude = symbol & 127;
  if (magnitude - 4 >= 120) return 0;
  return reinterpret<f32>(((magnitude << 21) + ((111 << 23) | (1 << 20))) | ((symbol & 128) << 24));
}
