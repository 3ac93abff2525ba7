// Rate–distortion costs of levels (src/stages/quantize/trellis/cost.ts), the weight that of `sizes`.

const ZERO_REACH = 1024;

fn reconstruct(level: i32, quantizer: u32) -> i32 {
  return 2 * level - select(0, sign(level), quantizer == 1u);
}

// Level of the lower of the two reconstructions around a residual in sixteenths.
fn lower_level(residual: i32, quantizer: u32) -> i32 {
  if (quantizer == 0u) {
    return residual >> 5u;
  }
  if (residual >= 16) {
    return (residual + 16) >> 5u;
  }
  if (residual >= 0) {
    return 0;
  }
  return select((residual - 16) >> 5u, -1, residual >= -16);
}

fn level_cost(table: u32, residual: i32, level: i32) -> i32 {
  let error = residual - 16 * reconstruct(level, table & 1u);
  return error * error + i32((sizes.weight * level_bits(table, level)) >> 8u);
}

// The best even level around a residual, or 0, and its cost.
fn even_level(table: u32, residual: i32) -> vec2<i32> {
  let even = (lower_level(residual, table & 1u) + 1) & ~1;
  let cost = level_cost(table, residual, even);
  if (even != 0 && abs(residual) <= ZERO_REACH) {
    let zero = level_cost(table, residual, 0);
    if (zero < cost) {
      return vec2(0, zero);
    }
  }
  return vec2(even, cost);
}

fn odd_level(table: u32, residual: i32) -> i32 {
  return lower_level(residual, table & 1u) | 1;
}
