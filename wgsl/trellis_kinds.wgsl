// Kinds of tokens for the entropy coder.
//!include include/trellis.wgsl

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> kinds: array<u32>;
@group(0) @binding(2) var<uniform> sizes: Sizes;

// An invocation four tokens, of all chunks.
@compute @workgroup_size(64)
fn kinds_of(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + local;
  let all = sizes.chunks * sizes.tokens;
  if (4u * i >= all) {
    return;
  }
  var four = 0u;
  for (var j = 0u; j < 4u; j++) {
    if (4u * i + j < all) {
      four |= kind_of(words[4u * i + j]) << (8u * j);
    }
  }
  kinds[i] = four;
}
