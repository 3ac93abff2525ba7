// Elements of a cache and float32, as bits: integers alone decide, so that subnormals and NaN pass everywhere.

// Two to the power −24: the least binary16 above zero.
const LEAST_F16 = 5.9604644775390625e-08;

// Binary16 bits (16 of a word) to float32 bits.
fn widen_f16(h: u32) -> u32 {
  let magnitude = h & 0x7fffu;
  var bits = (magnitude << 13u) + 0x38000000u;
  bits = select(bits, (magnitude << 13u) | 0x7f800000u, magnitude >= 0x7c00u);
  bits = select(bits, bitcast<u32>(f32(magnitude) * LEAST_F16), magnitude < 0x400u);
  return bits | ((h & 0x8000u) << 16u);
}

fn widen_f16x4(h: vec4<u32>) -> vec4<u32> {
  let magnitude = h & vec4(0x7fffu);
  var bits = (magnitude << vec4(13u)) + vec4(0x38000000u);
  bits = select(bits, (magnitude << vec4(13u)) | vec4(0x7f800000u), magnitude >= vec4(0x7c00u));
  bits = select(bits, bitcast<vec4<u32>>(vec4<f32>(magnitude) * LEAST_F16), magnitude < vec4(0x400u));
  return bits | ((h & vec4(0x8000u)) << vec4(16u));
}

// Float32 bits to the nearest binary16, ties to even; too large values become infinity, NaN the quiet NaN.
fn narrow_f16(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let m = bits & 0x7fffffffu;
  if (m >= 0x477ff000u) {
    return sign | select(0x7c00u, 0x7e00u, m > 0x7f800000u);
  }
  if (m < 0x38800000u) {
    // A subnormal result: units of 2^-24. Up to half a unit it is zero.
    if (m <= 0x33000000u) {
      return sign;
    }
    let shift = 126u - (m >> 23u);
    let fraction = (m & 0x7fffffu) | 0x800000u;
    let low = fraction >> shift;
    let rest = fraction & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    return sign | (low + select(0u, 1u, rest > half || (rest == half && (low & 1u) == 1u)));
  }
  return sign | ((m - 0x38000000u + 0xfffu + ((m >> 13u) & 1u)) >> 13u);
}

// Float32 bits to the nearest bfloat16, ties to even; NaN stays NaN.
fn narrow_bf16(bits: u32) -> u32 {
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  return select(rounded, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}
