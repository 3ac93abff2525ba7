// pack and unpack for any plan and number of tokens: an invocation a word of the result, whose other bytes it keeps.

struct Sizes {
  // The range of the packed bytes that is bound (it begins at a word), and the first of them within the binding.
  packed_begin: u32,
  packed_end: u32,
  packed_skip: u32,
  // The range of tokens whose symbols are bound, and the first of those within the binding.
  token_begin: u32,
  token_end: u32,
  symbols_skip: u32,
  components: u32,
  groups: u32,
  tokens: u32,
  none0: u32,
  none1: u32,
  none2: u32,
}

@group(0) @binding(0) var<storage, read> source: array<u32>;
// A group each: first packed byte, first component, size, bits of a code.
@group(0) @binding(1) var<storage, read> packing: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> result: array<u32>;
@group(0) @binding(3) var<uniform> sizes: Sizes;

@group(0) @binding(1) var<storage, read> lookup: array<u32>;
@group(0) @binding(2) var<storage, read> unpacking: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(4) var<uniform> unpack_sizes: Sizes;

// The group that has packed byte `at`.
fn group_of(at: u32) -> vec4<u32> {
  var low = 0u;
  var high = sizes.groups;
  while (high - low > 1u) {
    let middle = (low + high) / 2u;
    if (packing[middle].x <= at) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return packing[low];
}

// Packed byte `at`, where its tokens are bound: a byte has codes of 1, 2 or 4 tokens.
fn packed_byte(at: u32, old: u32) -> u32 {
  let g = group_of(at);
  let bits = g.w;
  let bytes = (sizes.tokens * bits + 7u) / 8u;
  let component = g.y + (at - g.x) / bytes;
  let each = 8u / bits;
  let token = (at - g.x) % bytes * each;
  if (token < sizes.token_begin || token >= sizes.token_end) {
    return old;
  }
  var byte = 0u;
  for (var i = 0u; i < each && token + i < sizes.token_end; i++) {
    let symbol = sizes.symbols_skip + (token + i - sizes.token_begin) * sizes.components + component;
    byte |= ((source[symbol / 4u] >> (8u * (symbol & 3u))) & ((1u << bits) - 1u)) << (i * bits);
  }
  return byte;
}

@compute @workgroup_size(256)
fn pack(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let first = sizes.packed_begin + 4u * ((group.y * groups.x + group.x) * 256u + local);
  if (first >= sizes.packed_end) {
    return;
  }
  let word = (first - sizes.packed_begin + sizes.packed_skip) / 4u;
  let old = result[word];
  var bits = 0u;
  for (var i = 0u; i < 4u; i++) {
    var byte = (old >> (8u * i)) & 0xffu;
    if (first + i < sizes.packed_end) {
      byte = packed_byte(first + i, byte);
    }
    bits |= byte << (8u * i);
  }
  result[word] = bits;
}

fn symbol_of(token: u32, component: u32, old: u32) -> u32 {
  let entry = lookup[component];
  if (entry == 0u) {
    return 0u;
  }
  let g = unpacking[entry & 0x3fffffffu];
  let bits = g.w;
  let bytes = (unpack_sizes.tokens * bits + 7u) / 8u;
  let at = g.x + (component - g.y) * bytes + token * bits / 8u;
  if (at < unpack_sizes.packed_begin || at >= unpack_sizes.packed_end) {
    return old;
  }
  let from_start = at - unpack_sizes.packed_begin + unpack_sizes.packed_skip;
  let byte = source[from_start / 4u] >> (8u * (from_start & 3u));
  return (byte >> ((token * bits) & 7u)) & ((1u << bits) - 1u);
}

@compute @workgroup_size(256)
fn unpack(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let first = 4u * ((group.y * groups.x + group.x) * 256u + local);
  let all = (unpack_sizes.token_end - unpack_sizes.token_begin) * unpack_sizes.components;
  if (first >= all) {
    return;
  }
  let word = (unpack_sizes.symbols_skip + first) / 4u;
  let old = symbols[word];
  var token = unpack_sizes.token_begin + first / unpack_sizes.components;
  var component = first % unpack_sizes.components;
  var bits = 0u;
  for (var i = 0u; i < 4u; i++) {
    var byte = (old >> (8u * i)) & 0xffu;
    if (first + i < all) {
      byte = symbol_of(token, component, byte);
    }
    bits |= byte << (8u * i);
    component++;
    if (component == unpack_sizes.components) {
      component = 0u;
      token++;
    }
  }
  symbols[word] = bits;
}
