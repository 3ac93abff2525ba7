// Made by `deno run -A tools/build_wgsl.ts` from wgsl/products.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/products.wgsl. */
export const products: Shader = {
  name: "products",
  text: `const LEAST_F16 = 5.9604644775390625e-08;
fn widen_f16(h: u32) -> u32 {
let magnitude = h & 0x7fffu;
var bits = (magnitude << 13u) + 0x38000000u;
bits = select(bits, (magnitude << 13u) | 0x7f800000u, magnitude >= 0x7c00u);
bits = select(bits, bitcast<u32>(f32(magnitude) * LEAST_F16), magnitude < 0x400u);
return bits | ((h & 0x8000u) << 16u);
}
fn widen_f16x4(h: vec4<u32>) -> vec4<u32> {
let magnitude = h & vec4(0x7fffu);
var bits = (magnitude << vec4(13u)) + vec4(0x38000000u);
bits = select(bits, (magnitude << vec4(13u)) | vec4(0x7f800000u), magnitude >= vec4(0x7c00u));
bits = select(bits, bitcast<vec4<u32>>(vec4<f32>(magnitude) * LEAST_F16), magnitude < vec4(0x400u));
return bits | ((h & vec4(0x8000u)) << vec4(16u));
}
fn narrow_f16(bits: u32) -> u32 {
let sign = (bits >> 16u) & 0x8000u;
let m = bits & 0x7fffffffu;
if (m >= 0x477ff000u) {
return sign | select(0x7c00u, 0x7e00u, m > 0x7f800000u);
}
if (m < 0x38800000u) {
if (m <= 0x33000000u) {
return sign;
}
let shift = 126u - (m >> 23u);
let fraction = (m & 0x7fffffu) | 0x800000u;
let low = fraction >> shift;
let rest = fraction & ((1u << shift) - 1u);
let half = 1u << (shift - 1u);
return sign | (low + select(0u, 1u, rest > half || (rest == half && (low & 1u) == 1u)));
}
return sign | ((m - 0x38000000u + 0xfffu + ((m >> 13u) & 1u)) >> 13u);
}
fn narrow_bf16(bits: u32) -> u32 {
let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
return select(rounded, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}
struct Sizes {
rows: u32,
columns: u32,
depth: u32,
left: u32,
left_stride: u32,
basis: u32,
basis_stride: u32,
result: u32,
result_stride: u32,
written: u32,
none0: u32,
none1: u32,
}
override TRANSPOSED: bool = false;
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
}`,
};
