// A dense layer in one order of rounding: out[r][j] = f(Σ_i rows[r][i] · weights[i][j] + bias[j]), sums from the first i to the
// last, each product and each sum rounded by itself (src/stages/transform/dense.ts). A workgroup gives 64 rows × 64
// columns, an invocation 4 × 4; 16 rows of weights and as many columns of rows lie in workgroup memory at a time.

struct Sizes {
  // Rows; vectors of a row; vectors of columns of these weights.
  rows: u32,
  depth: u32,
  columns: u32,
  // Vectors at which rows begin, and the results of these columns.
  rows_begin: u32,
  out_begin: u32,
  // Bits of the factor for negative results.
  slope: u32,
  // Always 0, which no compiler knows.
  zero: u32,
  // Vectors of a row of results, of which the columns may be some.
  stride: u32,
}

@group(0) @binding(0) var<storage, read> rows: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> sizes: Sizes;

// [row][4 vectors of the depth].
var<workgroup> rows_tile: array<vec4<f32>, 256>;
// [16 of the depth][16 vectors of columns].
var<workgroup> weights_tile: array<vec4<f32>, 256>;

// Keeps an operation apart from the next: a compiler may neither fuse a product with its sum nor add in another order.
fn rounded(x: vec4<f32>, zero: vec4<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ zero);
}

fn add(sum: vec4<f32>, x: f32, w: vec4<f32>, zero: vec4<u32>) -> vec4<f32> {
  return rounded(sum + rounded(x * w, zero), zero);
}

fn finish(row: u32, column: u32, sum: vec4<f32>, zero: vec4<u32>) {
  if (row >= sizes.rows || column >= sizes.columns) {
    return;
  }
  let value = rounded(sum + bias[column], zero);
  let scaled = value * bitcast<f32>(sizes.slope);
  result[sizes.out_begin + row * sizes.stride + column] = select(value, scaled, value < vec4(0.0));
}

@compute @workgroup_size(256)
fn layer(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
  let zero = vec4(sizes.zero);
  let first_row = group.x * 64u;
  let first_column = group.y * 16u;
  // The invocation's four rows within the tile, and its vector of columns.
  let own = id / 16u * 4u;
  let column = id % 16u;
  var s0 = vec4<f32>();
  var s1 = vec4<f32>();
  var s2 = vec4<f32>();
  var s3 = vec4<f32>();
  for (var at = 0u; at < sizes.depth; at += 4u) {
    workgroupBarrier();
    let row = first_row + id / 4u;
    let part = at + id % 4u;
    var x = vec4<f32>();
    if (row < sizes.rows && part < sizes.depth) {
      x = rows[sizes.rows_begin + row * sizes.depth + part];
    }
    rows_tile[id] = x;
    let k = 4u * at + id / 16u;
    var w = vec4<f32>();
    if (k < 4u * sizes.depth && first_column + column < sizes.columns) {
      w = weights[k * sizes.columns + first_column + column];
    }
    weights_tile[id] = w;
    workgroupBarrier();
    // What lies beyond the depth is zero and leaves every sum as it is: none is −0.
    for (var v = 0u; v < 4u; v++) {
      let a = rows_tile[own * 4u + v];
      let b = rows_tile[(own + 1u) * 4u + v];
      let c = rows_tile[(own + 2u) * 4u + v];
      let d = rows_tile[(own + 3u) * 4u + v];
      for (var j = 0u; j < 4u; j++) {
        let y = weights_tile[(4u * v + j) * 16u + column];
        s0 = add(s0, a[j], y, zero);
        s1 = add(s1, b[j], y, zero);
        s2 = add(s2, c[j], y, zero);
        s3 = add(s3, d[j], y, zero);
      }
    }
  }
  finish(first_row + own, first_column + column, s0, zero);
  finish(first_row + own + 1u, first_column + column, s1, zero);
  finish(first_row + own + 2u, first_column + column, s2, zero);
  finish(first_row + own + 3u, first_column + column, s3, zero);
}
