// scatter of heads whose dimension is a multiple of 8 and half of whose rotary dimension is: an invocation takes 8
// elements, or 8 pairs. The shader has `load(row, column, token)`: four float32 of a feature row, with the mean.
//!include include/elements.wgsl
//!include include/tile.wgsl

override DTYPE: u32 = 0u; // 0 f32, 1 f16, 2 bf16
override ROTATED: bool = false;

// Four elements (low) and their partners (high), turned.
struct Pair { low: vec4<u32>, high: vec4<u32> }

fn turned(x: vec4<u32>, y: vec4<u32>, c: vec4<f32>, s: vec4<f32>) -> Pair {
  let a = bitcast<vec4<f32>>(x);
  let b = bitcast<vec4<f32>>(y);
  let low = rounded4(a * c, tile.zero) - rounded4(b * s, tile.zero);
  let high = rounded4(b * c, tile.zero) + rounded4(a * s, tile.zero);
  return Pair(bitcast<vec4<u32>>(low), bitcast<vec4<u32>>(high));
}

fn narrow(bits: u32) -> u32 {
  if (DTYPE == 1u) {
    return narrow_f16(bits);
  }
  return narrow_bf16(bits);
}

fn pair(low: u32, high: u32) -> u32 {
  return narrow(low) | (narrow(high) << 16u);
}

fn store(at: u32, low: vec4<u32>, high: vec4<u32>) {
  if (DTYPE == 0u) {
    elements[at / 4u] = low;
    elements[at / 4u + 1u] = high;
  } else {
    elements[at / 8u] = vec4(pair(low.x, low.y), pair(low.z, low.w), pair(high.x, high.y), pair(high.z, high.w));
  }
}

@compute @workgroup_size(256)
fn scatter(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  let unit = id % tile.units;
  let token = id / tile.units % tile.tokens;
  let block = id / tile.units / tile.tokens;
  if (block >= tile.blocks) {
    return;
  }
  let pairs = select(0u, tile.half / 8u, ROTATED);
  let dim = select(8u * (unit + pairs), 8u * unit, unit < pairs);
  let source = tile.source + block * tile.block_stride + token * tile.dim + dim;
  let column = tile.column + block * tile.dim + dim;
  let row = tile.rows + token * tile.row_stride + block * tile.dim + dim;
  let low = load(row, column, token);
  let high = load(row + 4u, column + 4u, token);
  if (ROTATED && unit < pairs) {
    let turn = (tile.rotation + token * 2u * tile.half + dim) / 4u;
    let q = tile.half / 4u;
    let first = turned(low, load(row + tile.half, column + tile.half, token), turns[turn], turns[turn + q]);
    let second = turned(
      high,
      load(row + tile.half + 4u, column + tile.half + 4u, token),
      turns[turn + 1u],
      turns[turn + q + 1u],
    );
    store(source, first.low, second.low);
    store(source + tile.half, first.high, second.high);
  } else {
    store(source, low, high);
  }
}
