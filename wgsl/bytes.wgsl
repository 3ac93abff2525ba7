// Replaces some bits of up to two words: the ends of a write that does not begin or end at a multiple of 4 bytes.
@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<uniform> merges: array<vec4<u32>, 2>;

@compute @workgroup_size(2)
fn merge(@builtin(local_invocation_index) i: u32) {
  let m = merges[i];
  if (m.y != 0u) {
    words[m.x] = (words[m.x] & ~m.y) | (m.z & m.y);
  }
}
