// Shifts and scales [chunks][tokens][groups] → their low and high bytes [chunks][shift, scale][groups][tokens]. An invocation
// makes a word of each.

struct Sizes {
  // Bytes of each result, tokens of a chunk, groups.
  bytes: u32,
  tokens: u32,
  groups: u32,
  none: u32,
}

@group(0) @binding(0) var<storage, read> pairs: array<u32>;
@group(0) @binding(1) var<storage, read_write> low: array<u32>;
@group(0) @binding(2) var<storage, read_write> high: array<u32>;
@group(0) @binding(3) var<uniform> sizes: Sizes;

@compute @workgroup_size(256)
fn split(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let word = (group.y * groups.x + group.x) * 256u + local;
  if (4u * word >= sizes.bytes) {
    return;
  }
  let plane = sizes.groups * sizes.tokens;
  var first = low[word];
  var second = high[word];
  for (var k = 0u; k < 4u && 4u * word + k < sizes.bytes; k++) {
    let at = 4u * word + k;
    let of_plane = at % plane;
    let half = at / plane % 2u;
    let row = at / plane / 2u * sizes.tokens + of_plane % sizes.tokens;
    let value = pairs[row * sizes.groups + of_plane / sizes.tokens] >> (16u * half);
    let mask = 0xffu << (8u * k);
    first = (first & ~mask) | ((value & 0xffu) << (8u * k));
    second = (second & ~mask) | (((value >> 8u) & 0xffu) << (8u * k));
  }
  low[word] = first;
  high[word] = second;
}
