// Blocks of FP8: rows with a scale each.
//!include include/elements.wgsl
//!include include/codes.wgsl

struct Sizes {
  // First float32, code byte (a multiple of 4) and scale (a binary16 number, a multiple of 2) within their bindings.
  values: u32,
  codes: u32,
  scales: u32,
  rows: u32,
  length: u32,
  none0: u32,
  none1: u32,
  none2: u32,
}

@group(0) @binding(0) var<storage, read> values: array<u32>;
@group(0) @binding(1) var<storage, read_write> new_scales: array<u32>;
@group(0) @binding(2) var<uniform> scale_sizes: Sizes;

@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<uniform> sizes: Sizes;

@group(0) @binding(0) var<storage, read> old_codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> new_values: array<u32>;
@group(0) @binding(2) var<storage, read_write> new_values4: array<vec4<u32>>;

//!subgroups
var<workgroup> largest: array<atomic<u32>, 2>;
//!else
var<workgroup> largest: array<u32, 256>;
//!end

// Two rows a workgroup: their scales share a word.
@compute @workgroup_size(256)
fn scales_of(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let pair = group.y * groups.x + group.x;
  let row = 2u * pair + local / 128u;
  var most = 0u;
  if (row < scale_sizes.rows) {
    for (var i = local % 128u; i < scale_sizes.length; i += 128u) {
      most = max(most, values[scale_sizes.values + row * scale_sizes.length + i] & 0x7fffffffu);
    }
  }
//!subgroups
  let first = subgroupMax(select(0u, most, local < 128u));
  let second = subgroupMax(select(most, 0u, local < 128u));
  if (subgroupElect()) {
    atomicMax(&largest[0], first);
    atomicMax(&largest[1], second);
  }
  workgroupBarrier();
  let both = vec2(atomicLoad(&largest[0]), atomicLoad(&largest[1]));
//!else
  largest[local] = most;
  for (var step = 64u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (local % 128u < step) {
      largest[local] = max(largest[local], largest[local + step]);
    }
  }
  workgroupBarrier();
  let both = vec2(largest[0], largest[128]);
//!end
  if (local == 0u && row < scale_sizes.rows) {
    write_scales(pair, scale_of(bitcast<f32>(both.x), 448.0), scale_of(bitcast<f32>(both.y), 448.0));
  }
}

// The scales of two rows; after the last row, what is there stays.
fn write_scales(pair: u32, first: u32, second: u32) {
  let at = scale_sizes.scales / 2u + pair;
  var word = new_scales[at];
  word = (word & 0xffff0000u) | first;
  if (2u * pair + 1u < scale_sizes.rows) {
    word = (word & 0xffffu) | (second << 16u);
  }
  new_scales[at] = word;
}

// Scales from the parameter words of the quantizer (`values`), which has the codes.
@compute @workgroup_size(256)
fn scales_from(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let pair = (group.y * groups.x + group.x) * 256u + local;
  if (2u * pair < scale_sizes.rows) {
    write_scales(pair, values[2u * pair] >> 16u, values[2u * pair + 1u] >> 16u);
  }
}

fn scale_at(row: u32) -> u32 {
  let at = sizes.scales + row;
  return (scales[at / 2u] >> (16u * (at & 1u))) & 0xffffu;
}

@compute @workgroup_size(256)
fn encode(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let first = 4u * ((group.y * groups.x + group.x) * 256u + local);
  let all = sizes.rows * sizes.length;
  if (first >= all) {
    return;
  }
  let word = (sizes.codes + first) / 4u;
  var bits = 0u;
  for (var i = 0u; i < 4u; i++) {
    if (first + i < all) {
      let x = bitcast<f32>(values[sizes.values + first + i]);
      bits |= code_e4m3(x, scale_at((first + i) / sizes.length)) << (8u * i);
    } else {
      bits |= codes[word] & (0xffu << (8u * i));
    }
  }
  codes[word] = bits;
}

@compute @workgroup_size(256)
fn decode(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let first = 4u * ((group.y * groups.x + group.x) * 256u + local);
  let all = sizes.rows * sizes.length;
  if (first >= all) {
    return;
  }
  let word = old_codes[(sizes.codes + first) / 4u];
  for (var i = 0u; i < 4u && first + i < all; i++) {
    let code = (word >> (8u * i)) & 0xffu;
    new_values[sizes.values + first + i] = value_e4m3(code, scale_at((first + i) / sizes.length));
  }
}

// Rows of whole words: four codes of one row an invocation.
@compute @workgroup_size(256)
fn decode_words(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  let row = 4u * id / sizes.length;
  if (row >= sizes.rows) {
    return;
  }
  let word = old_codes[sizes.codes / 4u + id];
  new_values4[sizes.values / 4u + id] = values_e4m3(word, scale_at(row));
}
