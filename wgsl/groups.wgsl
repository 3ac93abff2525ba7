// Rotation and uniform quantization of groups in an array [outer][length][inner], as src/stages/quantize/uniform.ts defines
// them. Scales and codes are decided by comparison (codes.wgsl). Parameters: scale in the low half of a word, zero in the
// high. Codes go by four: along a group where its values lie side by side (inner 1), else across four groups.
//!include include/elements.wgsl
//!include include/codes.wgsl

struct Sizes {
  // Numbers, or words of codes, or words of parameters by four, that the kernel's invocations take.
  count: u32,
  length: u32,
  inner: u32,
  group: u32,
  levels: u32,
  // Bits of the least range, of the rotation's factor.
  factor: u32,
  zero: u32,
  none: u32,
}

@group(0) @binding(0) var<storage, read_write> rows: array<f32>;
@group(0) @binding(1) var<uniform> row_sizes: Sizes;

@group(0) @binding(0) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> new_codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> new_params: array<u32>;
@group(0) @binding(3) var<uniform> sizes: Sizes;

@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<u32>;
@group(0) @binding(2) var<storage, read_write> restored: array<vec4<u32>>;

var<workgroup> tile: array<f32, 2048>;

// The Walsh–Hadamard transform of rows of `length`, a power of two up to 2048, in place. A workgroup takes 2048 numbers.
@compute @workgroup_size(256)
fn rotate(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let first = (group.y * groups.x + group.x) * 2048u;
  for (var i = local; i < 2048u; i += 256u) {
    var x = 0.0;
    if (first + i < row_sizes.count) {
      x = rows[first + i];
    }
    tile[i] = x;
  }
  for (var half = 1u; half < row_sizes.length; half *= 2u) {
    workgroupBarrier();
    for (var pair = local; pair < 1024u; pair += 256u) {
      let at = (pair & ~(half - 1u)) * 2u + (pair & (half - 1u));
      let a = tile[at];
      let b = tile[at + half];
      tile[at] = bitcast<f32>(bitcast<u32>(a + b) ^ row_sizes.zero);
      tile[at + half] = bitcast<f32>(bitcast<u32>(a - b) ^ row_sizes.zero);
    }
  }
  workgroupBarrier();
  for (var i = local; i < 2048u; i += 256u) {
    if (first + i < row_sizes.count) {
      rows[first + i] = tile[i] * bitcast<f32>(row_sizes.factor);
    }
  }
}

fn parameters_of(low: f32, high: f32) -> u32 {
  let range = bitcast<f32>(widen_f16(narrow_f16(bitcast<u32>(abs(high - low)))));
  let scale = scale_of(max(range, bitcast<f32>(sizes.factor)), f32(sizes.levels));
  let bits = bitcast<u32>(low);
  // A zero has no sign.
  return scale | (select(narrow_f16(bits), 0u, (bits & 0x7fffffffu) == 0u) << 16u);
}

fn word_of(x: vec4<f32>, p: vec4<u32>) -> u32 {
  return code_integer(x.x, p.x >> 16u, p.x & 0xffffu, sizes.levels) |
    (code_integer(x.y, p.y >> 16u, p.y & 0xffffu, sizes.levels) << 8u) |
    (code_integer(x.z, p.z >> 16u, p.z & 0xffffu, sizes.levels) << 16u) |
    (code_integer(x.w, p.w >> 16u, p.w & 0xffffu, sizes.levels) << 24u);
}

// Groups whose values lie side by side: an invocation each.
@compute @workgroup_size(64)
fn quantize_runs(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 64u + local;
  if (id >= sizes.count) {
    return;
  }
  let per_row = (sizes.length + sizes.group - 1u) / sizes.group;
  let begin = id % per_row * sizes.group;
  let at = (id / per_row * sizes.length + begin) / 4u;
  let count = min(sizes.group, sizes.length - begin) / 4u;
  var low = values[at];
  var high = low;
  // A rotation that overflows leaves infinities or NaN, told apart by their bits.
  var finite = true;
  for (var i = 0u; i < count; i++) {
    let x = values[at + i];
    finite = finite && all((bitcast<vec4<u32>>(x) & vec4(0x7f800000u)) < vec4(0x7f800000u));
    low = min(low, x);
    high = max(high, x);
  }
  var words = 0x7e007e00u;
  if (finite) {
    words = parameters_of(min(min(low.x, low.y), min(low.z, low.w)), max(max(high.x, high.y), max(high.z, high.w)));
  }
  new_params[id] = words;
  for (var i = 0u; i < count; i++) {
    new_codes[at + i] = word_of(values[at + i], vec4(words));
  }
}

// Four groups whose values lie `inner` apart, side by side.
@compute @workgroup_size(64)
fn quantize_columns(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 64u + local;
  if (id >= sizes.count) {
    return;
  }
  let width = sizes.inner / 4u;
  let per_axis = (sizes.length + sizes.group - 1u) / sizes.group;
  let row = id / width;
  let begin = row % per_axis * sizes.group;
  let at = (row / per_axis * sizes.length + begin) * width + id % width;
  let count = min(sizes.group, sizes.length - begin);
  var low = values[at];
  var high = low;
  for (var i = 1u; i < count; i++) {
    let x = values[at + i * width];
    low = min(low, x);
    high = max(high, x);
  }
  let p = vec4(
    parameters_of(low.x, high.x),
    parameters_of(low.y, high.y),
    parameters_of(low.z, high.z),
    parameters_of(low.w, high.w),
  );
  new_params[4u * id] = p.x;
  new_params[4u * id + 1u] = p.y;
  new_params[4u * id + 2u] = p.z;
  new_params[4u * id + 3u] = p.w;
  for (var i = 0u; i < count; i++) {
    new_codes[at + i * width] = word_of(values[at + i * width], p);
  }
}

// Four codes back to values.
@compute @workgroup_size(256)
fn dequantize(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  if (id >= sizes.count) {
    return;
  }
  let word = codes[id];
  let row = 4u * id / sizes.inner;
  let per_axis = (sizes.length + sizes.group - 1u) / sizes.group;
  let p = (row / sizes.length * per_axis + row % sizes.length / sizes.group) * sizes.inner + 4u * id % sizes.inner;
  if (sizes.inner == 1u) {
    restored[id] = values_integer(word, params[p] >> 16u, params[p] & 0xffffu);
  } else {
    restored[id] = vec4(
      value_integer(word & 0xffu, params[p] >> 16u, params[p] & 0xffffu),
      value_integer((word >> 8u) & 0xffu, params[p + 1u] >> 16u, params[p + 1u] & 0xffffu),
      value_integer((word >> 16u) & 0xffu, params[p + 2u] >> 16u, params[p + 2u] & 0xffffu),
      value_integer(word >> 24u, params[p + 3u] >> 16u, params[p + 3u] & 0xffffu),
    );
  }
}
