// Feature rows from the sums of the integer transform: f32(sum) · (scale of the feature · scale of the token), every product
// rounded; for heads of which scatter_sums.wgsl takes none. An invocation takes 4 features of a token.

struct Sizes {
  tokens: u32,
  // Vectors of a row, padding included.
  columns: u32,
  // Vector of the sums, number of the token scales, and vector of the feature scales at which to begin.
  sums_begin: u32,
  tokens_begin: u32,
  // Features that are not padding.
  n: u32,
  zero: u32,
}

@group(0) @binding(0) var<storage, read> sums: array<vec4<i32>>;
@group(0) @binding(1) var<storage, read> scales: array<f32>;
@group(0) @binding(2) var<storage, read> token_scales: array<f32>;
@group(0) @binding(3) var<storage, read_write> rows: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> sizes: Sizes;

fn scale_at(feature: u32) -> f32 {
  if (feature >= sizes.n) {
    return 0.0;
  }
  return scales[feature];
}

@compute @workgroup_size(256)
fn restore(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let id = (group.y * groups.x + group.x) * 256u + local;
  let token = id / sizes.columns;
  let column = id % sizes.columns;
  if (token >= sizes.tokens) {
    return;
  }
  let f = column * 4u;
  let scale = vec4(scale_at(f), scale_at(f + 1u), scale_at(f + 2u), scale_at(f + 3u));
  let product = scale * token_scales[sizes.tokens_begin + token];
  // Kept apart, so that no compiler multiplies in another order.
  let factor = bitcast<vec4<f32>>(bitcast<vec4<u32>>(product) ^ vec4(sizes.zero));
  rows[id] = vec4<f32>(sums[sizes.sums_begin + id]) * factor;
}
