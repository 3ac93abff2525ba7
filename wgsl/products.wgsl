// Matrix products with a basis of binary16 rows (two in a word, rows of `basis_stride` elements, a multiple of 8): tiles
// of 64 × 64, 16 deep, 4 × 4 sums an invocation. Sums run over the depth in order, whatever the tile.
//!include include/elements.wgsl

struct Sizes {
  rows: u32,
  columns: u32,
  depth: u32,
  // First element and elements of a row: of the left operand, the basis (its first column) and the result.
  left: u32,
  left_stride: u32,
  basis: u32,
  basis_stride: u32,
  result: u32,
  result_stride: u32,
  // Columns to write, the rest being padding.
  written: u32,
  none0: u32,
  none1: u32,
}

// The basis row is the column of the result (project) or the depth (reconstruct).
override TRANSPOSED: bool = false;
// Adds to what the result holds: the depth goes on.
override ADDED: bool = false;

@group(0) @binding(0) var<storage, read> left: array<f32>;
@group(0) @binding(1) var<storage, read> basis: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> sizes: Sizes;

var<workgroup> left_tile: array<array<f32, 65>, 16>;
var<workgroup> basis_tile: array<array<f32, 65>, 16>;

fn basis_element(row: u32, column: u32) -> f32 {
  let at = sizes.basis + row * sizes.basis_stride + column;
  return bitcast<f32>(widen_f16((basis[at / 2u] >> (16u * (at & 1u))) & 0xffffu));
}

@compute @workgroup_size(256)
fn product(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let across = (sizes.written + 63u) / 64u;
  let id = group.y * groups.x + group.x;
  let row0 = id / across * 64u;
  let column0 = id % across * 64u;
  let y = local / 16u;
  let x = local % 16u;
  var sums: array<array<f32, 4>, 4>;
  if (ADDED) {
    for (var i = 0u; i < 4u; i++) {
      for (var j = 0u; j < 4u; j++) {
        let row = row0 + y + 16u * i;
        let column = column0 + x + 16u * j;
        if (row < sizes.rows && column < sizes.columns) {
          sums[i][j] = result[sizes.result + row * sizes.result_stride + column];
        }
      }
    }
  }
  for (var k0 = 0u; k0 < sizes.depth; k0 += 16u) {
    for (var i = 0u; i < 4u; i++) {
      let k = local % 16u;
      let m = local / 16u + 16u * i;
      var a = 0.0;
      if (row0 + m < sizes.rows && k0 + k < sizes.depth) {
        a = left[sizes.left + (row0 + m) * sizes.left_stride + k0 + k];
      }
      left_tile[k][m] = a;
      if (TRANSPOSED) {
        var b = 0.0;
        if (column0 + m < sizes.columns && k0 + k < sizes.depth) {
          b = basis_element(column0 + m, k0 + k);
        }
        basis_tile[k][m] = b;
      } else {
        let n = local % 64u;
        let depth = local / 64u + 4u * i;
        var b = 0.0;
        if (column0 + n < sizes.columns && k0 + depth < sizes.depth) {
          b = basis_element(k0 + depth, column0 + n);
        }
        basis_tile[depth][n] = b;
      }
    }
    workgroupBarrier();
    let deep = min(16u, sizes.depth - k0);
    for (var k = 0u; k < deep; k++) {
      for (var i = 0u; i < 4u; i++) {
        let a = left_tile[k][y + 16u * i];
        for (var j = 0u; j < 4u; j++) {
          sums[i][j] = fma(a, basis_tile[k][x + 16u * j], sums[i][j]);
        }
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i++) {
    for (var j = 0u; j < 4u; j++) {
      let row = row0 + y + 16u * i;
      let column = column0 + x + 16u * j;
      if (row < sizes.rows && column < sizes.written) {
        result[sizes.result + row * sizes.result_stride + column] = select(0.0, sums[i][j], column < sizes.columns);
      }
    }
  }
}
