// Where each row's groups of 32 tokens find their escapes.
//!include include/trellis.wgsl

@group(0) @binding(0) var<storage, read> symbols: array<u32>;
@group(0) @binding(1) var<storage, read_write> places: array<u32>;
@group(0) @binding(2) var<uniform> sizes: Sizes;

// Escapes of each group; an invocation a group.
@compute @workgroup_size(64)
fn count_escapes(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 64u + local;
  if (id >= sizes.chunks * sizes.components * sizes.groups) {
    return;
  }
  let row = id / sizes.groups;
  let first = (id - row * sizes.groups) * 32u;
  let begin = row * sizes.tokens + first;
  let end = begin + min(32u, sizes.tokens - first);
  var count = 0u;
  for (var word = begin >> 2u; word << 2u < end; word++) {
    let at = word << 2u;
    count += escapes_in(symbols[word], bytes_between(max(begin, at) - at, min(end - at, 4u)));
  }
  places[id] = count;
}
