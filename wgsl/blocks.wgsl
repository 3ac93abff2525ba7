// ggml's blocks of 32 values, q8_0 and q4_0, as src/stages/quantize/ggml_blocks.ts defines them. Scales and their inverses
// are quotients of integers, rounded here, because a device may be off by units when it divides; small numbers are lifted
// by 2^64, because it may take those below 2^-126 for zero. An invocation takes two blocks, whose bytes fill whole words.
//!include include/elements.wgsl

struct Sizes {
  // Blocks; always 0, which no compiler knows.
  blocks: u32,
  zero: u32,
}

@group(0) @binding(0) var<storage, read> values: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> packed: array<u32>;
@group(0) @binding(2) var<uniform> sizes: Sizes;

@group(0) @binding(0) var<storage, read> coded: array<u32>;
@group(0) @binding(1) var<storage, read_write> restored: array<vec4<u32>>;

const INFINITY = 0x7f800000u;

// A positive float32: fraction · 2^exponent, fraction from 2^23 to below 2^24.
struct Number {
  fraction: u32,
  exponent: i32,
}

fn number_of(bits: u32) -> Number {
  let fraction = bits & 0x7fffffu;
  if (bits < 0x800000u) {
    let shift = countLeadingZeros(fraction) - 8u;
    return Number(fraction << shift, -149 - i32(shift));
  }
  return Number(fraction | 0x800000u, i32(bits >> 23u) - 150);
}

// Bits of the float32 nearest to q · 2^exponent, ties to even; with `rest` to a little more. 2^23 ≤ q < 2^26.
fn nearest(q: u32, exponent: i32, rest: bool) -> u32 {
  let top = 31 - i32(countLeadingZeros(q));
  let least = max(top + exponent, -126);
  // Places below the last one that is kept; with 27 nothing is left.
  let shift = u32(min(least - 23 - exponent, 27));
  var kept = q >> shift;
  if (shift > 0u) {
    let low = q & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    kept += select(0u, 1u, low > half || (low == half && (rest || (kept & 1u) == 1u)));
  }
  // Of a normal number the fraction's first bit adds one to the exponent.
  return min((u32(least + 126) << 23u) + kept, INFINITY);
}

// Bits of largest / 127.
fn scale_q8(largest: u32) -> u32 {
  if (largest == 0u) {
    return 0u;
  }
  let x = number_of(largest);
  let q = (x.fraction << 8u) / 127u;
  return nearest(q, x.exponent - 8, q * 127u != x.fraction << 8u);
}

// Bits of extreme / 8.
fn scale_q4(extreme: u32) -> u32 {
  if (extreme == 0u) {
    return 0u;
  }
  let x = number_of(extreme);
  return nearest(x.fraction, x.exponent - 3, false);
}

// What values are multiplied by: the inverse of the scale, and both lifted where the block is small.
struct Factor {
  inverse: f32,
  lifted: bool,
  // The inverse is no float32.
  infinite: bool,
}

fn factor_of(scale: u32, largest: u32) -> Factor {
  if (scale == 0u) {
    return Factor(0.0, false, false);
  }
  // 2^48 / fraction, eight bits at a time.
  let x = number_of(scale);
  var q = 0x1000000u / x.fraction;
  var rest = 0x1000000u - q * x.fraction;
  for (var i = 0u; i < 3u; i++) {
    let digit = (rest << 8u) / x.fraction;
    rest = (rest << 8u) - digit * x.fraction;
    q = (q << 8u) | digit;
  }
  let exponent = -48 - x.exponent;
  if (nearest(q, exponent, rest != 0u) == INFINITY) {
    return Factor(0.0, false, true);
  }
  let lifted = largest < 0x20000000u; // 2^-63
  return Factor(bitcast<f32>(nearest(q, exponent - select(0, 64, lifted), rest != 0u)), lifted, false);
}

// A value times 2^64.
fn lift(bits: u32) -> f32 {
  let magnitude = bits & 0x7fffffffu;
  var lifted = magnitude + 0x20000000u;
  if (magnitude < 0x800000u) {
    lifted = bitcast<u32>(f32(magnitude) * 2.5849394142282115e-26); // 2^-85
  }
  return bitcast<f32>(lifted | (bits & 0x80000000u));
}

fn product(bits: u32, factor: Factor) -> f32 {
  var x = bitcast<f32>(bits);
  if (factor.lifted) {
    x = lift(bits);
  }
  // No compiler may fuse it with what follows.
  return bitcast<f32>(bitcast<u32>(x * factor.inverse) ^ sizes.zero);
}

// The nearest integer, half away from zero: what is left of the whole part is exact.
fn code_q8(bits: u32, factor: Factor) -> u32 {
  if (factor.infinite) {
    return 0u;
  }
  let x = product(bits, factor);
  let whole = trunc(x);
  let away = select(0, select(1, -1, x < 0.0), abs(x - whole) >= 0.5);
  return u32(i32(whole) + away) & 0xffu;
}

fn code_q4(bits: u32, factor: Factor, negative: bool) -> u32 {
  if (factor.infinite) {
    let zero = (bits & 0x7fffffffu) == 0u;
    return select(0u, 15u, !zero && (bits >> 31u == 1u) == negative);
  }
  let x = select(product(bits, factor), -product(bits, factor), negative);
  return min(15u, u32(x + 8.5));
}

fn code_pair_q8(pair: vec2<u32>, factor: Factor) -> u32 {
  return code_q8(pair.x, factor) | (code_q8(pair.y, factor) << 8u);
}

@compute @workgroup_size(64)
fn quantize_q8(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let first = ((group.y * groups.x + group.x) * 64u + local) * 2u;
  if (first >= sizes.blocks) {
    return;
  }
  let end = min(first + 2u, sizes.blocks);
  var word = first / 2u * 17u;
  // The half of a word that waits for the next.
  var waiting = 0u;
  for (var block = first; block < end; block++) {
    var most = vec2(0u);
    for (var i = 0u; i < 16u; i++) {
      most = max(most, values[block * 16u + i] & vec2(0x7fffffffu));
    }
    let largest = max(most.x, most.y);
    let scale = scale_q8(largest);
    let factor = factor_of(scale, largest);
    // The first block begins with a word, the second in the middle of one.
    let odd = block & 1u;
    if (odd == 0u) {
      waiting = narrow_f16(scale);
    } else {
      packed[word] = waiting | (narrow_f16(scale) << 16u);
      word++;
    }
    for (var i = 0u; i < 16u; i++) {
      let codes = code_pair_q8(values[block * 16u + i], factor);
      if ((i & 1u) == odd) {
        packed[word] = waiting | (codes << 16u);
        word++;
      } else {
        waiting = codes;
      }
    }
  }
  if (end < first + 2u) {
    packed[word] = waiting;
  }
}

@compute @workgroup_size(64)
fn quantize_q4(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let first = ((group.y * groups.x + group.x) * 64u + local) * 2u;
  if (first >= sizes.blocks) {
    return;
  }
  let end = min(first + 2u, sizes.blocks);
  var word = first / 2u * 9u;
  var waiting = 0u;
  for (var block = first; block < end; block++) {
    // The first of the largest magnitude, with its sign.
    var extreme = 0u;
    for (var i = 0u; i < 16u; i++) {
      let pair = values[block * 16u + i];
      extreme = select(extreme, pair.x, (pair.x & 0x7fffffffu) > (extreme & 0x7fffffffu));
      extreme = select(extreme, pair.y, (pair.y & 0x7fffffffu) > (extreme & 0x7fffffffu));
    }
    let largest = extreme & 0x7fffffffu;
    let scale = scale_q4(largest);
    let factor = factor_of(scale, largest);
    // The scale is that of −8, and zero a negative one.
    let negative = extreme >> 31u == 0u;
    let half = narrow_f16(scale) | select(0u, 0x8000u, negative);
    let odd = block & 1u;
    if (odd == 0u) {
      waiting = half;
    } else {
      packed[word] = waiting | (half << 16u);
      word++;
    }
    for (var i = 0u; i < 8u; i++) {
      let low = values[block * 16u + i];
      let high = values[block * 16u + 8u + i];
      let codes = code_q4(low.x, factor, negative) | (code_q4(high.x, factor, negative) << 4u) |
        (code_q4(low.y, factor, negative) << 8u) | (code_q4(high.y, factor, negative) << 12u);
      if ((i & 1u) == odd) {
        packed[word] = waiting | (codes << 16u);
        word++;
      } else {
        waiting = codes;
      }
    }
  }
  if (end < first + 2u) {
    packed[word] = waiting;
  }
}

fn half_at(index: u32) -> u32 {
  return (coded[index / 2u] >> (index % 2u * 16u)) & 0xffffu;
}

// Bits of codes times a scale, signs by themselves: a device may lose that of zero.
fn restore(codes: vec4<i32>, scale: u32) -> vec4<u32> {
  let magnitude = bitcast<f32>(widen_f16(scale & 0x7fffu));
  let sign = vec4((scale & 0x8000u) << 16u) ^ select(vec4(0u), vec4(0x80000000u), codes < vec4(0));
  return bitcast<vec4<u32>>(vec4<f32>(abs(codes)) * magnitude) | sign;
}

// Four codes back to values.
@compute @workgroup_size(256)
fn dequantize_q8(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  if (id >= 8u * sizes.blocks) {
    return;
  }
  let begin = id / 8u * 17u;
  let at = begin + 1u + id % 8u * 2u;
  let low = half_at(at);
  let high = half_at(at + 1u);
  let bytes = vec4(low, low >> 8u, high, high >> 8u) << vec4(24u);
  restored[id] = restore(bitcast<vec4<i32>>(bytes) >> vec4(24u), half_at(begin));
}

@compute @workgroup_size(256)
fn dequantize_q4(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  if (id >= 8u * sizes.blocks) {
    return;
  }
  let begin = id / 8u * 9u;
  let at = begin + 1u + id % 4u * 2u;
  let low = half_at(at);
  let high = half_at(at + 1u);
  let bytes = vec4(low, low >> 8u, high, high >> 8u) >> vec4(id % 8u / 4u * 4u);
  restored[id] = restore(vec4<i32>(bytes & vec4(15u)) - vec4(8), half_at(begin));
}
