// gather and scatter of heads of any shape: an invocation a float32 of the rows, or a word of the elements.
//!include include/elements.wgsl
//!include include/tile.wgsl

override DTYPE: u32 = 0u; // 0 f32, 1 f16, 2 bf16
override ROTATED: bool = false;
override CENTRED: bool = false;

@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read> turns: array<f32>;
@group(0) @binding(2) var<storage, read> means: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<u32>;
@group(0) @binding(4) var<uniform> tile: Tile;

fn element(at: u32) -> u32 {
  if (DTYPE == 0u) {
    return source[at];
  }
  let bits = (source[at / 2u] >> (16u * (at & 1u))) & 0xffffu;
  if (DTYPE == 1u) {
    return widen_f16(bits);
  }
  return bits << 16u;
}

// A float32 of the source rows, with the mean added.
fn feature(row: u32, column: u32) -> u32 {
  let x = source[row];
  if (CENTRED) {
    return bitcast<u32>(bitcast<f32>(x) + means[column]);
  }
  return x;
}

// Element i of a head after the rotation, from itself and its partner (float32 bits).
fn turned(own: u32, other: u32, token: u32, i: u32) -> u32 {
  let second = i >= tile.half;
  let turn = tile.rotation + token * 2u * tile.half + select(i, i - tile.half, second);
  let a = rounded(bitcast<f32>(own) * turns[turn], tile.zero);
  let b = rounded(bitcast<f32>(other) * turns[turn + tile.half], tile.zero);
  return bitcast<u32>(select(a - b, a + b, second));
}

@compute @workgroup_size(256)
fn gather(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  let column = id % tile.columns;
  let token = id / tile.columns;
  if (token >= tile.tokens) {
    return;
  }
  let block = column / tile.dim;
  let i = column % tile.dim;
  var x = 0u;
  if (block < tile.blocks) {
    let head = tile.source + block * tile.block_stride + token * tile.dim;
    x = element(head + i);
    if (ROTATED && i < 2u * tile.half) {
      x = turned(x, element(head + select(i + tile.half, i - tile.half, i >= tile.half)), token, i);
    }
    if (CENTRED) {
      x = bitcast<u32>(bitcast<f32>(x) - means[tile.column + column]);
    }
  }
  result[tile.rows + token * tile.row_stride + column] = x;
}

// Element `at` of the tile, which has all tokens of its rows.
fn restored(at: u32) -> u32 {
  let head = at / tile.dim;
  let i = at % tile.dim;
  let block = head / tile.tokens;
  let token = head % tile.tokens;
  let row = tile.rows + token * tile.row_stride + block * tile.dim;
  let column = tile.column + block * tile.dim;
  var x = feature(row + i, column + i);
  if (ROTATED && i < 2u * tile.half) {
    let other = select(i + tile.half, i - tile.half, i >= tile.half);
    x = turned(x, feature(row + other, column + other), token, i);
  }
  if (DTYPE == 1u) {
    return narrow_f16(x);
  }
  if (DTYPE == 2u) {
    return narrow_bf16(x);
  }
  return x;
}

// The `count` elements of the tile go to element `source` of the binding on. Words that also hold others keep those.
@compute @workgroup_size(256)
fn scatter(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  if (DTYPE == 0u) {
    if (id < tile.count) {
      result[tile.source + id] = restored(id);
    }
    return;
  }
  let word = tile.source / 2u + id;
  let end = tile.source + tile.count;
  if (2u * word >= end) {
    return;
  }
  var bits = result[word];
  if (2u * word >= tile.source) {
    bits = (bits & 0xffff0000u) | restored(2u * word - tile.source);
  }
  if (2u * word + 1u < end) {
    bits = (bits & 0xffffu) | (restored(2u * word + 1u - tile.source) << 16u);
  }
  result[word] = bits;
}
