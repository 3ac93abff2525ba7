// Made by `deno run -A tools/build_wgsl.ts` from wgsl/dense.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/dense.wgsl. */
export const dense: Shader = {
  name: "dense",
  text: `struct Sizes {
rows: u32,
depth: u32,
columns: u32,
rows_begin: u32,
out_begin: u32,
slope: u32,
zero: u32,
stride: u32,
}
@group(0) @binding(0) var<storage, read> rows: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> sizes: Sizes;
var<workgroup> rows_tile: array<vec4<f32>, 256>;
var<workgroup> weights_tile: array<vec4<f32>, 256>;
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
}`,
};
