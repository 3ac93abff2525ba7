// The quantizer in two kernels, for groups of any size: shifts and scales of all groups, then codes by the word. And
// what the one-pass quantizer leaves out: words between its segments.
//!include include/elements.wgsl
//!include include/codes.wgsl
//!include include/extremes.wgsl

struct Sizes {
  // First float32, symbol byte (a multiple of 4) and parameter word within their bindings.
  coefficients: u32,
  symbols: u32,
  parameters: u32,
  stride: u32,
  tokens: u32,
  components: u32,
  groups: u32,
  // Segments of the plan, most slots of one, and rounds that join the slots of the largest group.
  segments: u32,
  widest: u32,
  rounds: u32,
  none0: u32,
  none1: u32,
}

@group(0) @binding(0) var<storage, read> coefficients: array<u32>;
@group(0) @binding(1) var<storage, read> slots: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> segments: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> new_parameters: array<u32>;
@group(0) @binding(4) var<uniform> sizes: Sizes;

@group(0) @binding(1) var<storage, read> lookup: array<u32>;
@group(0) @binding(2) var<storage, read> parameters: array<u32>;
@group(0) @binding(3) var<storage, read_write> symbols: array<u32>;

@group(0) @binding(4) var<storage, read> seam_segments: array<vec4<u32>>;
@group(0) @binding(5) var<uniform> seam_sizes: Sizes;

// Unsigned numbers in the order of float32 values.
fn key(bits: u32) -> u32 {
  return bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u);
}

fn unkey(k: u32) -> u32 {
  return k ^ select(0xffffffffu, 0x80000000u, k >= 0x80000000u);
}

@compute @workgroup_size(256)
fn parameters_of(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
//!subgroups
  @builtin(subgroup_invocation_id) lane: u32,
//!end
) {
  let id = group.y * groups.x + group.x;
  let segment = segments[id % sizes.segments];
  let row = local / sizes.widest;
  let number = local % sizes.widest;
  let rows = 256u / sizes.widest;
  let token = id / sizes.segments * rows + row;
  let live = row < rows && number < segment.y && token < sizes.tokens;
  var low = 0xffffffffu;
  var high = 0u;
  var slot = vec4<u32>(0u);
  if (live) {
    slot = slots[segment.x + number];
    let at = sizes.coefficients + token * sizes.stride + slot.x;
    let count = slot.y & 0x3fffffffu;
    for (var i = 0u; i < count; i++) {
      let bits = coefficients[at + i];
      // fp8: the largest magnitude.
      let k = select(key(bits), bits & 0x7fffffffu, (slot.y >> 30u) == 3u);
      low = min(low, k);
      high = max(high, k);
    }
  }
  let index = slot.z & 0xffffu;
//!subgroups
  let extremes = extremes_of(local, lane, live, index, sizes.rounds, low, high);
//!else
  let extremes = extremes_of(local, live, index, slot.z >> 16u, sizes.rounds, low, high);
//!end
  low = extremes.x;
  high = extremes.y;
  if (live && index == 0u) {
    var words = 0u;
    if ((slot.y >> 30u) == 3u) {
      words = scale_of(bitcast<f32>(high), 448.0) << 16u;
    } else {
      let bottom = unkey(low);
      // A minimum of −0 becomes 0.
      let shift = select(narrow_f16(bottom), 0u, bottom == 0x80000000u);
      let range = bitcast<f32>(unkey(high)) - bitcast<f32>(bottom);
      words = shift | (scale_of(abs(range), select(15.0, 3.0, (slot.y >> 30u) == 1u)) << 16u);
    }
    new_parameters[sizes.parameters + token * sizes.groups + slot.w] = words;
  }
}

fn code(size: Sizes, token: u32, component: u32) -> u32 {
  let entry = lookup[component];
  if (entry == 0u) {
    return 0u;
  }
  let x = bitcast<f32>(coefficients[size.coefficients + token * size.stride + component]);
  let words = parameters[size.parameters + token * size.groups + (entry & 0x3fffffffu)];
  let scale = words >> 16u;
  if ((entry >> 30u) == 3u) {
    return code_e4m3(x, scale);
  }
  return code_integer(x, words & 0xffffu, scale, select(15u, 3u, (entry >> 30u) == 1u));
}

// Writes the word of the symbols from `first` on; bytes beyond them stay.
fn write_word(size: Sizes, first: u32) {
  let all = size.tokens * size.components;
  let word = (size.symbols + first) / 4u;
  var token = first / size.components;
  var component = first % size.components;
  var bits = 0u;
  for (var i = 0u; i < 4u; i++) {
    if (first + i < all) {
      bits |= code(size, token, component) << (8u * i);
    } else {
      bits |= symbols[word] & (0xffu << (8u * i));
    }
    component++;
    if (component == size.components) {
      component = 0u;
      token++;
    }
  }
  symbols[word] = bits;
}

@compute @workgroup_size(256)
fn codes_of(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let first = 4u * ((group.y * groups.x + group.x) * 256u + local);
  if (first < sizes.tokens * sizes.components) {
    write_word(sizes, first);
  }
}

// Words from the end of a segment to the beginning of the next (of the next token, after the last).
@compute @workgroup_size(64)
fn seams(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 64u + local;
  let last = seam_sizes.tokens * seam_sizes.segments;
  if (id > last) {
    return;
  }
  var begin = 0u;
  if (id > 0u) {
    let before = id - 1u;
    begin = before / seam_sizes.segments * seam_sizes.components + seam_segments[before % seam_sizes.segments].w;
  }
  var end = seam_sizes.tokens * seam_sizes.components;
  if (id < last) {
    end = id / seam_sizes.segments * seam_sizes.components + seam_segments[id % seam_sizes.segments].z;
  }
  for (var first = begin / 4u * 4u; first < end; first += 4u) {
    write_word(seam_sizes, first);
  }
}
