// The first element that is NaN or infinite; `found` begins at 0xffffffff.

struct Sizes {
  // First word and elements of the binding, and the number of its first element.
  skip: u32,
  elements: u32,
  number: u32,
  none: u32,
}

override DTYPE: u32 = 0u; // 0 f32, 1 f16, 2 bf16

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> found: atomic<u32>;
@group(0) @binding(2) var<uniform> sizes: Sizes;

const NONE = 0xffffffffu;

fn first_bad(word: u32) -> u32 {
  if (DTYPE == 0u) {
    return select(2u, 0u, (word & 0x7f800000u) == 0x7f800000u);
  }
  let exponent = select(0x7f80u, 0x7c00u, DTYPE == 1u);
  if ((word & exponent) == exponent) {
    return 0u;
  }
  return select(2u, 1u, ((word >> 16u) & exponent) == exponent);
}

@compute @workgroup_size(256)
fn find(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let each = select(2u, 1u, DTYPE == 0u);
  let all = (sizes.elements + each - 1u) / each;
  // Four words an invocation, side by side with its neighbours.
  let start = (group.y * groups.x + group.x) * 1024u + local;
  var least = NONE;
  for (var i = 0u; i < 4u; i++) {
    let at = start + 256u * i;
    if (at < all) {
      let bad = at * each + first_bad(words[sizes.skip + at]);
      if (bad < min((at + 1u) * each, sizes.elements)) {
        least = min(least, sizes.number + bad);
      }
    }
  }
//!subgroups
  least = subgroupMin(least);
  if (subgroupElect() && least != NONE) {
    atomicMin(&found, least);
  }
//!else
  if (least != NONE) {
    atomicMin(&found, least);
  }
//!end
}
