// A part of a chunk: some blocks and tokens of it.
struct Tile {
  blocks: u32,
  tokens: u32,
  dim: u32,
  half: u32,
  // First element of the source layout within its binding, and elements between blocks.
  source: u32,
  block_stride: u32,
  // First float32 of the feature rows within their binding, and elements between rows.
  rows: u32,
  row_stride: u32,
  // First float32 of the rotation within its binding.
  rotation: u32,
  // First column: of the mean.
  column: u32,
  // Always 0, which no compiler knows.
  zero: u32,
  // Invocations of a head.
  units: u32,
  // Of the kernels for any shape: elements in all, and columns to write, padding included.
  count: u32,
  columns: u32,
  // Of the sums: first token scale within its binding.
  token_scales: u32,
}

// Keeps a product apart from the sum that follows: without it, a compiler may fuse the two, with one rounding less.
fn rounded(x: f32, zero: u32) -> f32 {
  return bitcast<f32>(bitcast<u32>(x) ^ zero);
}

fn rounded4(x: vec4<f32>, zero: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ vec4(zero));
}
