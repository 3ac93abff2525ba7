// scatter of the sums of the integer transform: f32(sum) · (scale of the feature · scale of the token) + mean, every
// operation rounded.
//!include include/scatter.wgsl

@group(0) @binding(0) var<storage, read> sums: array<vec4<i32>>;
@group(0) @binding(1) var<storage, read> turns: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> means: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> scales: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> token_scales: array<f32>;
@group(0) @binding(5) var<storage, read_write> elements: array<vec4<u32>>;
@group(0) @binding(6) var<uniform> tile: Tile;

fn load(row: u32, column: u32, token: u32) -> vec4<u32> {
  let factor = rounded4(scales[column / 4u] * token_scales[tile.token_scales + token], tile.zero);
  let x = rounded4(vec4<f32>(sums[row / 4u]) * factor, tile.zero);
  return bitcast<vec4<u32>>(x + means[column / 4u]);
}
