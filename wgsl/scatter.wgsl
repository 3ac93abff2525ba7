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
    var x = array<vec4<f32>, 2>(bitcast<vec4<f32>>(low), bitcast<vec4<f32>>(high));
    var y: array<vec4<f32>, 2>;
    let turn = (tile.rotation + token * 2u * tile.half + dim) / 4u;
    let q = tile.half / 4u;
    for (var i = 0u; i < 2u; i++) {
      let a = x[i];
      let b = bitcast<vec4<f32>>(load(row + tile.half + 4u * i, column + tile.half + 4u * i));
      let c = turns[turn + i];
      let s = turns[turn + q + i];
      x[i] = rounded4(a * c, tile.zero) - rounded4(b * s, tile.zero);
      y[i] = rounded4(b * c, tile.zero) + rounded4(a * s, tile.zero);
    }
    store(source, bitcast<vec4<u32>>(x[0]), bitcast<vec4<u32>>(x[1]));
    store(source + tile.half, bitcast<vec4<u32>>(y[0]), bitcast<vec4<u32>>(y[1]));
  } else {
    store(source, low, high);
  }
}
