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

@group(0) @binding(3) var<storage, read_write> coefficients4: array<vec4<u32>>;

fn value(token: u32, component: u32) -> u32 {
  if (component >= sizes.components) {
    return 0u;
  }
  let entry = lookup[component];
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
  coefficients4[sizes.coefficients / 4u + id] =
    vec4(value(token, c), value(token, c + 1u), value(token, c + 2u), value(token, c + 3u));
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
    coefficients[sizes.coefficients + id] = value(token, id % sizes.stride);
  }
}
