// Codes and scales of the quantizer, exact without division: a code is decided by comparing with the middles between
// codes times the scale, which float32 holds exactly (5 and 11 significant bits), a scale by comparing with the middles
// between binary16 numbers times the levels (12 and 4 bits). That the reference rounds its quotient to float32 before
// makes no difference: beside a middle, float32 numbers are so far apart that no quotient rounds onto it.

const INFINITY_F16 = 0x7c00u;

// The middle between binary16 number h and the next, as float32. Past the largest number comes 2^16.
fn middle_f16(h: u32) -> f32 {
  if (h < 0x400u) {
    return f32(2u * h + 1u) * 2.98023223876953125e-08; // 2^-25
  }
  return bitcast<f32>((h << 13u) + 0x38001000u);
}

// The binary16 number nearest to range / levels, ties to even. range ≥ 0.
fn scale_of(range: f32, levels: f32) -> u32 {
  if (bitcast<u32>(range) >= 0x7f800000u) {
    return INFINITY_F16;
  }
  var h = narrow_f16(bitcast<u32>(range * (1.0 / levels)));
  let odd = (h & 1u) == 1u;
  if (h > 0u) {
    let low = middle_f16(h - 1u) * levels;
    if (range < low || (range == low && odd)) {
      return h - 1u;
    }
  }
  if (h < INFINITY_F16) {
    let high = middle_f16(h) * levels;
    if (range > high || (range == high && odd)) {
      return h + 1u;
    }
  }
  return h;
}

// Shift and scale of a group, made ready for its elements.
struct Step {
  shift: f32,
  scale: f32,
  inverse: f32,
  levels: f32,
  // No scale, or infinite ones: every code is `code`.
  fixed: bool,
  code: u32,
}

fn step_of(shift: u32, scale: u32, levels: u32) -> Step {
  let s = bitcast<f32>(widen_f16(scale));
  let no_scale = scale == 0u || scale >= INFINITY_F16;
  let no_shift = (shift & 0x7fffu) >= INFINITY_F16;
  let code = select(0u, levels, !no_scale && no_shift && (shift & 0x8000u) != 0u);
  return Step(bitcast<f32>(widen_f16(shift)), s, 1.0 / s, f32(levels), no_scale || no_shift, code);
}

// Four codes in a word. What is left of x beside code · scale is exact, and at or beyond half a scale where the
// approximate quotient was rounded to the wrong side.
fn codes_integer(x: vec4<f32>, step: Step) -> u32 {
  if (step.fixed) {
    return step.code * 0x1010101u;
  }
  let d = x - vec4(step.shift);
  var q = clamp(round(d * step.inverse), vec4(0.0), vec4(step.levels));
  let rest = d - q * step.scale;
  let half = vec4(0.5 * step.scale);
  let odd = fract(q * 0.5) != vec4(0.0);
  let up = (rest > half) | ((rest == half) & odd);
  let down = (rest < -half) | ((rest == -half) & odd);
  q += select(vec4(0.0), vec4(1.0), up & (q < vec4(step.levels)));
  q -= select(vec4(0.0), vec4(1.0), down & (q > vec4(0.0)));
  let codes = vec4<u32>(q);
  return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u);
}

// clamp(roundTiesEven((x − shift) / scale), 0, levels); shift and scale are binary16 bits, the scale no NaN.
fn code_integer(x: f32, shift: u32, scale: u32, levels: u32) -> u32 {
  if (scale == 0u || scale >= INFINITY_F16) {
    return 0u;
  }
  if ((shift & 0x7fffu) >= INFINITY_F16) {
    return select(0u, levels, (shift & 0x8000u) != 0u);
  }
  let d = x - bitcast<f32>(widen_f16(shift));
  let s = bitcast<f32>(widen_f16(scale));
  let q = clamp(floor(d * (1.0 / s) + 0.5), 0.0, f32(levels));
  let code = u32(q);
  let odd = (code & 1u) == 1u;
  let low = (q - 0.5) * s;
  let high = (q + 0.5) * s;
  if (code > 0u && (d < low || (d == low && odd))) {
    return code - 1u;
  }
  if (code < levels && (d > high || (d == high && odd))) {
    return code + 1u;
  }
  return code;
}

// The middle between E4M3 magnitude e and the next.
fn middle_e4m3(e: u32) -> f32 {
  if (e < 8u) {
    return (f32(e) + 0.5) * 0.001953125; // 2^-9
  }
  return bitcast<f32>(((e + 960u) << 20u) + 0x80000u);
}

// The E4M3 code nearest to x / scale, ties to even, saturating; the scale is binary16 bits.
fn code_e4m3(x: f32, scale: u32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 24u) & 0x80u;
  if (scale == 0u) {
    return 0u;
  }
  if (scale >= INFINITY_F16) {
    return select(sign, 0x7fu, (bits & 0x7fffffffu) >= 0x7f800000u);
  }
  let magnitude = bitcast<f32>(bits & 0x7fffffffu);
  let s = bitcast<f32>(widen_f16(scale));
  let quotient = min(magnitude * (1.0 / s), 448.0);
  var e = u32(quotient * 512.0 + 0.5);
  if (quotient >= 0.015625) {
    e = min(((bitcast<u32>(quotient) + 0x80000u) >> 20u) - 960u, 0x7eu);
  }
  let odd = (e & 1u) == 1u;
  if (e > 0u) {
    let low = middle_e4m3(e - 1u) * s;
    if (magnitude < low || (magnitude == low && odd)) {
      return sign | (e - 1u);
    }
  }
  if (e < 0x7eu) {
    let high = middle_e4m3(e) * s;
    if (magnitude > high || (magnitude == high && odd)) {
      return sign | (e + 1u);
    }
  }
  return sign | e;
}

// Float32 bits of code · scale + shift. Infinite and NaN parameters are told apart by their bits.
fn value_integer(code: u32, shift: u32, scale: u32) -> u32 {
  let infinite_scale = (scale & 0x7fffu) == INFINITY_F16;
  let infinite_shift = (shift & 0x7fffu) == INFINITY_F16;
  let nan = (scale & 0x7fffu) > INFINITY_F16 || (shift & 0x7fffu) > INFINITY_F16 || (infinite_scale && code == 0u) ||
    (infinite_scale && infinite_shift && scale != shift);
  if (nan) {
    return 0x7fc00000u;
  }
  if (infinite_scale) {
    return widen_f16(scale);
  }
  if (infinite_shift) {
    return widen_f16(shift);
  }
  return bitcast<u32>(f32(code) * bitcast<f32>(widen_f16(scale)) + bitcast<f32>(widen_f16(shift)));
}

// Float32 bits of an E4M3 code times a scale.
fn value_e4m3(code: u32, scale: u32) -> u32 {
  let e = code & 0x7fu;
  let sign = ((code & 0x80u) << 24u) ^ ((scale & 0x8000u) << 16u);
  let s = scale & 0x7fffu;
  if (e == 0x7fu || s > INFINITY_F16 || (s == INFINITY_F16 && e == 0u)) {
    return 0x7fc00000u;
  }
  if (s == INFINITY_F16) {
    return sign | 0x7f800000u;
  }
  let value = select(bitcast<f32>((e + 960u) << 20u), f32(e) * 0.001953125, e < 8u);
  return sign | bitcast<u32>(value * bitcast<f32>(widen_f16(s)));
}

// Float32 bits of the four E4M3 codes of a word times a scale.
fn values_e4m3(word: u32, scale: u32) -> vec4<u32> {
  let codes = vec4(word, word >> 8u, word >> 16u, word >> 24u) & vec4(0xffu);
  let e = codes & vec4(0x7fu);
  if ((scale & 0x7fffu) >= INFINITY_F16 || any(e == vec4(0x7fu))) {
    return vec4(value_e4m3(codes.x, scale), value_e4m3(codes.y, scale), value_e4m3(codes.z, scale), value_e4m3(codes.w, scale));
  }
  let sign = ((codes & vec4(0x80u)) << vec4(24u)) ^ vec4((scale & 0x8000u) << 16u);
  let least = vec4<f32>(e) * 0.001953125; // 2^-9
  let value = select(bitcast<vec4<f32>>((e + vec4(960u)) << vec4(20u)), least, e < vec4(8u));
  return sign | bitcast<vec4<u32>>(value * bitcast<f32>(widen_f16(scale & 0x7fffu)));
}

// Float32 bits of the four codes of a word times a scale, plus a shift.
fn values_integer(word: u32, shift: u32, scale: u32) -> vec4<u32> {
  let codes = vec4(word, word >> 8u, word >> 16u, word >> 24u) & vec4(0xffu);
  if ((scale & 0x7fffu) >= INFINITY_F16 || (shift & 0x7fffu) >= INFINITY_F16) {
    return vec4(
      value_integer(codes.x, shift, scale),
      value_integer(codes.y, shift, scale),
      value_integer(codes.z, shift, scale),
      value_integer(codes.w, shift, scale),
    );
  }
  return bitcast<vec4<u32>>(
    vec4<f32>(codes) * bitcast<f32>(widen_f16(scale)) + vec4(bitcast<f32>(widen_f16(shift))),
  );
}
