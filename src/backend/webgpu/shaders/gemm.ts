// Made by `deno run -A tools/build_wgsl.ts` from wgsl/gemm.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/gemm.wgsl. */
export const gemm: Shader = {
  name: "gemm",
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
m: u32,
columns: u32,
n: u32,
k: u32,
rows_stride: u32,
sums_stride: u32,
rows_begin: u32,
sums_begin: u32,
basis_stride: u32,
basis_begin: u32,
basis_rows: u32,
more: u32,
}
@group(0) @binding(0) var<storage, read> rows: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> basis: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> sizes: Sizes;
override BY_ROWS: bool = true;
var<workgroup> rows_tile: array<vec4<f32>, 512>;
var<workgroup> basis_tile: array<vec4<f32>, 512>;
fn values_of_halves(pair: vec2<u32>) -> vec4<f32> {
let bits = vec4(pair.x & 0xffffu, pair.x >> 16u, pair.y & 0xffffu, pair.y >> 16u);
return bitcast<vec4<f32>>(widen_f16x4(bits));
}
fn half_at(index: u32) -> u32 {
let pair = basis[index / 4u];
let word = select(pair.x, pair.y, (index & 2u) != 0u);
return (word >> ((index & 1u) * 16u)) & 0xffffu;
}
fn halves_at(index: u32) -> vec2<u32> {
if ((index & 3u) == 0u) {
return basis[index / 4u];
}
return vec2(half_at(index) | (half_at(index + 1u) << 16u), half_at(index + 2u) | (half_at(index + 3u) << 16u));
}
fn rows_at(row: u32, depth: u32) -> vec4<f32> {
if (row >= sizes.m) {
return vec4(0.0);
}
return rows[row * sizes.rows_stride + sizes.rows_begin + depth / 4u];
}
fn fetch_rows(row: u32, depth: u32) -> mat4x4<f32> {
if (depth >= sizes.k) {
return mat4x4<f32>();
}
return mat4x4(rows_at(row, depth), rows_at(row + 1u, depth), rows_at(row + 2u, depth), rows_at(row + 3u, depth));
}
fn basis_at(column: u32, depth: u32) -> vec4<f32> {
if (BY_ROWS) {
if (column >= sizes.basis_rows) {
return vec4(0.0);
}
return values_of_halves(basis[(column * sizes.basis_stride + depth) / 4u]);
}
if (column >= sizes.n) {
return vec4(0.0);
}
return values_of_halves(halves_at(depth * sizes.basis_stride + sizes.basis_begin + column));
}
fn fetch_basis(column: u32, depth: u32, step: u32) -> mat4x4<f32> {
if (depth >= sizes.k) {
return mat4x4<f32>();
}
return mat4x4(
basis_at(column, depth),
basis_at(column + step, depth),
basis_at(column + 2u * step, depth),
basis_at(column + 3u * step, depth),
);
}
fn fetch(id: u32, count: u32, first_row: u32, first_column: u32, k: u32) -> mat4x4<f32> {
let loader = id % count;
if (id < count) {
return fetch_rows(first_row + loader / 4u * 4u, k + loader % 4u * 4u);
}
if (id >= 2u * count) {
return mat4x4<f32>();
}
if (BY_ROWS) {
return fetch_basis(first_column + loader / 4u * 4u, k + loader % 4u * 4u, 1u);
}
let wide = count / 16u;
return fetch_basis(first_column + loader % wide * 4u, k + loader / wide, wide * 4u);
}
fn store(id: u32, count: u32, vectors: u32, block: mat4x4<f32>) {
let loader = id % count;
let quad = loader % 4u;
let to = quad * 4u * vectors + ((loader / 4u) ^ (quad * 2u));
let columns = transpose(block);
if (id < count) {
rows_tile[to] = columns[0];
rows_tile[to + vectors] = columns[1];
rows_tile[to + 2u * vectors] = columns[2];
rows_tile[to + 3u * vectors] = columns[3];
} else if (id < 2u * count) {
if (BY_ROWS) {
basis_tile[to] = columns[0];
basis_tile[to + vectors] = columns[1];
basis_tile[to + 2u * vectors] = columns[2];
basis_tile[to + 3u * vectors] = columns[3];
} else {
let wide = count / 16u;
let depth = loader / wide;
let turn = depth / 4u * 2u;
let at = depth * vectors;
let vector = loader % wide;
basis_tile[at + (vector ^ turn)] = block[0];
basis_tile[at + ((vector + wide) ^ turn)] = block[1];
basis_tile[at + ((vector + 2u * wide) ^ turn)] = block[2];
basis_tile[at + ((vector + 3u * wide) ^ turn)] = block[3];
}
}
}
fn put(row: u32, at: u32, value: vec4<f32>) {
if (row >= sizes.m || at >= sizes.columns) {
return;
}
let column = vec4(at * 4u) + vec4(0u, 1u, 2u, 3u);
sums[row * sizes.sums_stride + sizes.sums_begin + at] = select(vec4(0.0), value, column < vec4(sizes.n));
}
fn before(row: u32, at: u32) -> vec4<f32> {
if (sizes.more == 0u || row >= sizes.m || at >= sizes.columns) {
return vec4(0.0);
}
return sums[row * sizes.sums_stride + sizes.sums_begin + at];
}
alias Sums128 = array<vec4<f32>, 16>;
fn add128(s: ptr<function, Sums128>, row_at: u32, column_at: u32) {
let a0 = rows_tile[row_at];
let a1 = rows_tile[row_at + 16u];
let b0 = basis_tile[column_at];
let b1 = basis_tile[column_at + 16u];
(*s)[0] = fma(vec4(a0.x), b0, (*s)[0]);
(*s)[1] = fma(vec4(a0.x), b1, (*s)[1]);
(*s)[2] = fma(vec4(a0.y), b0, (*s)[2]);
(*s)[3] = fma(vec4(a0.y), b1, (*s)[3]);
(*s)[4] = fma(vec4(a0.z), b0, (*s)[4]);
(*s)[5] = fma(vec4(a0.z), b1, (*s)[5]);
(*s)[6] = fma(vec4(a0.w), b0, (*s)[6]);
(*s)[7] = fma(vec4(a0.w), b1, (*s)[7]);
(*s)[8] = fma(vec4(a1.x), b0, (*s)[8]);
(*s)[9] = fma(vec4(a1.x), b1, (*s)[9]);
(*s)[10] = fma(vec4(a1.y), b0, (*s)[10]);
(*s)[11] = fma(vec4(a1.y), b1, (*s)[11]);
(*s)[12] = fma(vec4(a1.z), b0, (*s)[12]);
(*s)[13] = fma(vec4(a1.z), b1, (*s)[13]);
(*s)[14] = fma(vec4(a1.w), b0, (*s)[14]);
(*s)[15] = fma(vec4(a1.w), b1, (*s)[15]);
}
@compute @workgroup_size(256)
fn product128(@builtin(local_invocation_index) id: u32, @builtin(workgroup_id) group: vec3<u32>) {
let x = id % 16u;
let y = id / 16u;
let first_row = group.x * 128u;
let first_column = group.y * 128u;
let row = first_row + y * 4u;
let at = first_column / 4u + x;
var s = Sums128(
before(row, at), before(row, at + 16u),
before(row + 1u, at), before(row + 1u, at + 16u),
before(row + 2u, at), before(row + 2u, at + 16u),
before(row + 3u, at), before(row + 3u, at + 16u),
before(row + 64u, at), before(row + 64u, at + 16u),
before(row + 65u, at), before(row + 65u, at + 16u),
before(row + 66u, at), before(row + 66u, at + 16u),
before(row + 67u, at), before(row + 67u, at + 16u),
);
var next = fetch(id, 128u, first_row, first_column, 0u);
for (var k = 0u; k < sizes.k; k += 16u) {
workgroupBarrier();
store(id, 128u, 32u, next);
workgroupBarrier();
next = fetch(id, 128u, first_row, first_column, k + 16u);
for (var q = 0u; q < 4u; q++) {
let row_at = q * 128u + (y ^ (q * 2u));
let column_at = q * 128u + (x ^ (q * 2u));
add128(&s, row_at, column_at);
add128(&s, row_at + 32u, column_at + 32u);
add128(&s, row_at + 64u, column_at + 64u);
add128(&s, row_at + 96u, column_at + 96u);
}
}
put(row, at, s[0]);
put(row, at + 16u, s[1]);
put(row + 1u, at, s[2]);
put(row + 1u, at + 16u, s[3]);
put(row + 2u, at, s[4]);
put(row + 2u, at + 16u, s[5]);
put(row + 3u, at, s[6]);
put(row + 3u, at + 16u, s[7]);
put(row + 64u, at, s[8]);
put(row + 64u, at + 16u, s[9]);
put(row + 65u, at, s[10]);
put(row + 65u, at + 16u, s[11]);
put(row + 66u, at, s[12]);
put(row + 66u, at + 16u, s[13]);
put(row + 67u, at, s[14]);
put(row + 67u, at + 16u, s[15]);
}
alias Sums64 = array<vec4<f32>, 4>;
fn add64(s: ptr<function, Sums64>, row_at: u32, column_at: u32) {
let a0 = rows_tile[row_at];
let b0 = basis_tile[column_at];
(*s)[0] = fma(vec4(a0.x), b0, (*s)[0]);
(*s)[1] = fma(vec4(a0.y), b0, (*s)[1]);
(*s)[2] = fma(vec4(a0.z), b0, (*s)[2]);
(*s)[3] = fma(vec4(a0.w), b0, (*s)[3]);
}
@compute @workgroup_size(256)
fn product64(@builtin(local_invocation_index) id: u32, @builtin(workgroup_id) group: vec3<u32>) {
let x = id % 16u;
let y = id / 16u;
let first_row = group.x * 64u;
let first_column = group.y * 64u;
let row = first_row + y * 4u;
let at = first_column / 4u + x;
var s = Sums64(
before(row, at),
before(row + 1u, at),
before(row + 2u, at),
before(row + 3u, at),
);
var next = fetch(id, 64u, first_row, first_column, 0u);
for (var k = 0u; k < sizes.k; k += 16u) {
workgroupBarrier();
store(id, 64u, 16u, next);
workgroupBarrier();
next = fetch(id, 64u, first_row, first_column, k + 16u);
for (var q = 0u; q < 4u; q++) {
let row_at = q * 64u + (y ^ (q * 2u));
let column_at = q * 64u + (x ^ (q * 2u));
add64(&s, row_at, column_at);
add64(&s, row_at + 16u, column_at + 16u);
add64(&s, row_at + 32u, column_at + 32u);
add64(&s, row_at + 48u, column_at + 48u);
}
}
put(row, at, s[0]);
put(row + 1u, at, s[1]);
put(row + 2u, at, s[2]);
put(row + 3u, at, s[3]);
}`,
};
