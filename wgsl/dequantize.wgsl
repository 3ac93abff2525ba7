// The inverse of the quantizer, 4 coefficients an invocation.
//!include include/elements.wgsl
//!include include/codes.wgsl

struct Sizes {
  // First float32, symbol byte and parameter word within their bindings.
  coefficients: u32,
  symbols: u32,
  parameters: u32,
  stride: u32,
  tokens: u32,
  components: u32,
  groups: u32,
  none: u32,
}

@group(0) @binding(0) var<storage, read> symbols: array<u32>;
@group(0) @binding(1) var<storage, read> lookup: array<u32>;
@group(0) @binding(2) var<storage, read> parameters: array<u32>;
@group(0) @binding(3) var<storage, read_write> coefficients: array<u32>;
@group(0) @binding(4) var<uniform> sizes: Sizes;

@group(0) @binding(1) var<storage, read> lookup4: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> coefficients4: array<vec4<u32>>;

fn value(entry: u32, token: u32, component: u32) -> u32 {
  if (entry == 0u) {
    return 0u;
  }
  let at = sizes.symbols + token * sizes.components + component;
  let code = (symbols[at / 4u] >> (8u * (at & 3u))) & 0xffu;
  let words = parameters[sizes.parameters + token * sizes.groups + (entry & 0x3fffffffu)];
  if ((entry >> 30u) == 3u) {
    return value_e4m3(code, words >> 16u);
  }
  return value_integer(code, words & 0xffffu, words >> 16u);
}

// The four code bytes from byte `at` on.
fn word_at(at: u32) -> u32 {
  let low = symbols[at / 4u];
  let shift = 8u * (at & 3u);
  if (shift == 0u) {
    return low;
  }
  return (low >> shift) | (symbols[at / 4u + 1u] << (32u - shift));
}

// Rows of whole vectors.
@compute @workgroup_size(256)
fn vectors(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  let across = sizes.stride / 4u;
  let token = id / across;
  if (token >= sizes.tokens) {
    return;
  }
  let c = 4u * (id % across);
  var result = vec4<u32>(0u);
  if (c < sizes.components) {
    // The lookup is padded to whole vectors; what is beyond the components is in no group.
    let entries = lookup4[c / 4u];
    if (all(entries == entries.xxxx)) {
      if (entries.x != 0u) {
        let word = word_at(sizes.symbols + token * sizes.components + c);
        let words = parameters[sizes.parameters + token * sizes.groups + (entries.x & 0x3fffffffu)];
        if ((entries.x >> 30u) == 3u) {
          result = values_e4m3(word, words >> 16u);
        } else {
          result = values_integer(word, words & 0xffffu, words >> 16u);
        }
      }
    } else {
      result = vec4(
        value(entries.x, token, c),
        value(entries.y, token, c + 1u),
        value(entries.z, token, c + 2u),
        value(entries.w, token, c + 3u),
      );
    }
  }
  coefficients4[sizes.coefficients / 4u + id] = result;
}

@compute @workgroup_size(256)
fn singles(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  let token = id / sizes.stride;
  if (token < sizes.tokens) {
    let component = id % sizes.stride;
    var entry = 0u;
    if (component < sizes.components) {
      entry = lookup[component];
    }
    coefficients[sizes.coefficients + id] = value(entry, token, component);
  }
}
