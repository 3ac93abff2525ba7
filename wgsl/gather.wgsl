// gather of heads whose dimension is a multiple of 8 and half of whose rotary dimension is: an invocation takes 8
// elements, or 8 pairs.
//!include include/elements.wgsl
//!include include/tile.wgsl

override DTYPE: u32 = 0u; // 0 f32, 1 f16, 2 bf16
override ROTATED: bool = false;
override CENTRED: bool = false;

@group(0) @binding(0) var<storage, read> elements: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> turns: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> means: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> features: array<vec4<u32>>;
@group(0) @binding(4) var<uniform> tile: Tile;

struct Eight { low: vec4<u32>, high: vec4<u32> }

fn load(at: u32) -> Eight {
  if (DTYPE == 0u) {
    return Eight(elements[at / 4u], elements[at / 4u + 1u]);
  }
  let words = elements[at / 8u];
  let first = vec4(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);
  let last = vec4(words.z & 0xffffu, words.z >> 16u, words.w & 0xffffu, words.w >> 16u);
  if (DTYPE == 1u) {
    return Eight(widen_f16x4(first), widen_f16x4(last));
  }
  return Eight(first << vec4(16u), last << vec4(16u));
}

fn store(row: u32, column: u32, x: vec4<u32>) {
  var y = x;
  if (CENTRED) {
    y = bitcast<vec4<u32>>(bitcast<vec4<f32>>(x) - means[column / 4u]);
  }
  features[row / 4u] = y;
}

// Four elements and their partners, turned.
fn store_pair(row: u32, column: u32, x: vec4<u32>, y: vec4<u32>, c: vec4<f32>, s: vec4<f32>) {
  let a = bitcast<vec4<f32>>(x);
  let b = bitcast<vec4<f32>>(y);
  let first = rounded4(a * c, tile.zero) - rounded4(b * s, tile.zero);
  let second = rounded4(b * c, tile.zero) + rounded4(a * s, tile.zero);
  store(row, column, bitcast<vec4<u32>>(first));
  store(row + tile.half, column + tile.half, bitcast<vec4<u32>>(second));
}

@compute @workgroup_size(256)
fn gather(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  let unit = id % tile.units;
  let block = id / tile.units % tile.blocks;
  let token = id / tile.units / tile.blocks;
  if (token >= tile.tokens) {
    return;
  }
  let pairs = select(0u, tile.half / 8u, ROTATED);
  let dim = select(8u * (unit + pairs), 8u * unit, unit < pairs);
  let source = tile.source + block * tile.block_stride + token * tile.dim + dim;
  let column = tile.column + block * tile.dim + dim;
  let row = tile.rows + token * tile.row_stride + block * tile.dim + dim;
  let x = load(source);
  if (ROTATED && unit < pairs) {
    let y = load(source + tile.half);
    let turn = (tile.rotation + token * 2u * tile.half + dim) / 4u;
    let q = tile.half / 4u;
    store_pair(row, column, x.low, y.low, turns[turn], turns[turn + q]);
    store_pair(row + 4u, column + 4u, x.high, y.high, turns[turn + 1u], turns[turn + q + 1u]);
  } else {
    store(row, column, x.low);
    store(row + 4u, column + 4u, x.high);
  }
}
