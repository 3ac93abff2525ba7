// scatter of heads whose dimension is a multiple of 8 and half of whose rotary dimension is: an invocation takes 8
// elements, or 8 pairs.
//!include include/elements.wgsl
//!include include/tile.wgsl

override DTYPE: u32 = 0u; // 0 f32, 1 f16, 2 bf16
override ROTATED: bool = false;
override CENTRED: bool = false;

@group(0) @binding(0) var<storage, read> features: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> turns: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> means: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> elements: array<vec4<u32>>;
@group(0) @binding(4) var<uniform> tile: Tile;

fn load(row: u32, column: u32) -> vec4<u32> {
  let x = features[row / 4u];
  if (CENTRED) {
    return bitcast<vec4<u32>>(bitcast<vec4<f32>>(x) + means[column / 4u]);
  }
  return x;
}

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
  let low = load(row, column);
  let high = load(row + 4u, column + 4u);
  if (ROTATED && unit < pairs) {
    let turn = (tile.rotation + token * 2u * tile.half + dim) / 4u;
    let q = tile.half / 4u;
    let first = turned(low, load(row + tile.half, column + tile.half), turns[turn], turns[turn + q]);
    let second = turned(
      high,
      load(row + tile.half + 4u, column + tile.half + 4u),
      turns[turn + 1u],
      turns[turn + q + 1u],
    );
    store(source, first.low, second.low);
    store(source + tile.half, first.high, second.high);
  } else {
    store(source, low, high);
  }
}
