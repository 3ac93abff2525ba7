// scatter of float32 rows.
//!include include/scatter.wgsl

override CENTRED: bool = false;

@group(0) @binding(0) var<storage, read> features: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> turns: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> means: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> elements: array<vec4<u32>>;
@group(0) @binding(4) var<uniform> tile: Tile;

fn load(row: u32, column: u32, token: u32) -> vec4<u32> {
  let x = features[row / 4u];
  if (CENTRED) {
    return bitcast<vec4<u32>>(bitcast<vec4<f32>>(x) + means[column / 4u]);
  }
  return x;
}
