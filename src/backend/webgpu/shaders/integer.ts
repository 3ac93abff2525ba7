// Made by `deno run -A tools/build_wgsl.ts` from wgsl/integer.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/integer.wgsl. */
export const integer: Shader = {
  name: "integer",
  text: `struct Sizes {
m: u32,
columns: u32,
n: u32,
tiles: u32,
sums_stride: u32,
sums_begin: u32,
basis_begin: u32,
basis_stride: u32,
}
@group(0) @binding(0) var<storage, read> low: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> high: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> flags: array<u32>;
@group(0) @binding(3) var<storage, read> basis: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<i32>>;
@group(0) @binding(5) var<uniform> sizes: Sizes;
var<workgroup> levels_tile: array<vec4<u32>, 512>;
var<workgroup> basis_tile: array<vec4<u32>, 512>;
fn dot_bytes(a: u32, b: u32) -> i32 {
let x = vec4<i32>(vec4(a << 24u, a << 16u, a << 8u, a)) >> vec4(24u);
let y = vec4<i32>(vec4(b << 24u, b << 16u, b << 8u, b)) >> vec4(24u);
return x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
}
fn dots(a: u32, b: vec4<u32>) -> vec4<i32> {
return vec4(dot4I8Packed(a, b.x), dot4I8Packed(a, b.y), dot4I8Packed(a, b.z), dot4I8Packed(a, b.w));
}
struct Block {
a: vec4<u32>,
b: vec4<u32>,
c: vec4<u32>,
d: vec4<u32>,
}
fn levels_at(row: u32, at: u32, is_high: bool) -> vec4<u32> {
if (row >= sizes.m) {
return vec4(0u);
}
if (is_high) {
return high[row * sizes.tiles * 4u + at];
}
return low[row * sizes.tiles * 4u + at];
}
fn basis_at(column: u32, at: u32) -> vec4<u32> {
if (column >= sizes.n) {
return vec4(0u);
}
return basis[sizes.basis_begin + column * sizes.basis_stride + at];
}
fn fetch(id: u32, count: u32, first_row: u32, first_column: u32, tile: u32, is_high: bool) -> Block {
let at = tile * 4u + id % 4u;
let four = id % count / 4u * 4u;
if (id < count) {
let row = first_row + four;
return Block(
levels_at(row, at, is_high),
levels_at(row + 1u, at, is_high),
levels_at(row + 2u, at, is_high),
levels_at(row + 3u, at, is_high),
);
}
if (id < 2u * count) {
let column = first_column + four;
return Block(
basis_at(column, at),
basis_at(column + 1u, at),
basis_at(column + 2u, at),
basis_at(column + 3u, at),
);
}
return Block();
}
fn store(id: u32, count: u32, vectors: u32, block: Block) {
let quad = id % 4u;
let to = quad * 4u * vectors + ((id % count / 4u) ^ (quad * 2u));
let x = vec4(block.a.x, block.b.x, block.c.x, block.d.x);
let y = vec4(block.a.y, block.b.y, block.c.y, block.d.y);
let z = vec4(block.a.z, block.b.z, block.c.z, block.d.z);
let w = vec4(block.a.w, block.b.w, block.c.w, block.d.w);
if (id < count) {
levels_tile[to] = x;
levels_tile[to + vectors] = y;
levels_tile[to + 2u * vectors] = z;
levels_tile[to + 3u * vectors] = w;
} else if (id < 2u * count) {
basis_tile[to] = x;
basis_tile[to + vectors] = y;
basis_tile[to + 2u * vectors] = z;
basis_tile[to + 3u * vectors] = w;
}
}
fn put(row: u32, at: u32, value: vec4<i32>) {
if (row < sizes.m && at < sizes.columns) {
sums[row * sizes.sums_stride + sizes.sums_begin + at] = value;
}
}
alias Sums128 = array<vec4<i32>, 16>;
fn add128(s: ptr<function, Sums128>, row_at: u32, column_at: u32) {
let a0 = levels_tile[row_at];
let a1 = levels_tile[row_at + 16u];
let b0 = basis_tile[column_at];
let b1 = basis_tile[column_at + 16u];
(*s)[0] += dots(a0.x, b0);
(*s)[1] += dots(a0.x, b1);
(*s)[2] += dots(a0.y, b0);
(*s)[3] += dots(a0.y, b1);
(*s)[4] += dots(a0.z, b0);
(*s)[5] += dots(a0.z, b1);
(*s)[6] += dots(a0.w, b0);
(*s)[7] += dots(a0.w, b1);
(*s)[8] += dots(a1.x, b0);
(*s)[9] += dots(a1.x, b1);
(*s)[10] += dots(a1.y, b0);
(*s)[11] += dots(a1.y, b1);
(*s)[12] += dots(a1.z, b0);
(*s)[13] += dots(a1.z, b1);
(*s)[14] += dots(a1.w, b0);
(*s)[15] += dots(a1.w, b1);
}
fn add_tile128(s: ptr<function, Sums128>, x: u32, y: u32) {
for (var q = 0u; q < 4u; q++) {
let row_at = q * 128u + (y ^ (q * 2u));
let column_at = q * 128u + (x ^ (q * 2u));
add128(s, row_at, column_at);
add128(s, row_at + 32u, column_at + 32u);
add128(s, row_at + 64u, column_at + 64u);
add128(s, row_at + 96u, column_at + 96u);
}
}
@compute @workgroup_size(256)
fn product128(@builtin(local_invocation_index) id: u32, @builtin(workgroup_id) group: vec3<u32>) {
let x = id % 16u;
let y = id / 16u;
let first_row = group.x * 128u;
let first_column = group.y * 128u;
let row = first_row + y * 4u;
let at = first_column / 4u + x;
var s = Sums128();
for (var t = 0u; t < sizes.tiles; t++) {
if (flags[first_row / 128u * sizes.tiles + t] != 0u) {
workgroupBarrier();
store(id, 128u, 32u, fetch(id, 128u, first_row, first_column, t, true));
workgroupBarrier();
add_tile128(&s, x, y);
}
}
s[0] = s[0] << vec4(8u);
s[1] = s[1] << vec4(8u);
s[2] = s[2] << vec4(8u);
s[3] = s[3] << vec4(8u);
s[4] = s[4] << vec4(8u);
s[5] = s[5] << vec4(8u);
s[6] = s[6] << vec4(8u);
s[7] = s[7] << vec4(8u);
s[8] = s[8] << vec4(8u);
s[9] = s[9] << vec4(8u);
s[10] = s[10] << vec4(8u);
s[11] = s[11] << vec4(8u);
s[12] = s[12] << vec4(8u);
s[13] = s[13] << vec4(8u);
s[14] = s[14] << vec4(8u);
s[15] = s[15] << vec4(8u);
var next = fetch(id, 128u, first_row, first_column, 0u, false);
for (var t = 0u; t < sizes.tiles; t++) {
workgroupBarrier();
store(id, 128u, 32u, next);
workgroupBarrier();
if (t + 1u < sizes.tiles) {
next = fetch(id, 128u, first_row, first_column, t + 1u, false);
}
add_tile128(&s, x, y);
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
alias Sums64 = array<vec4<i32>, 4>;
fn add64(s: ptr<function, Sums64>, row_at: u32, column_at: u32) {
let a0 = levels_tile[row_at];
let b0 = basis_tile[column_at];
(*s)[0] += dots(a0.x, b0);
(*s)[1] += dots(a0.y, b0);
(*s)[2] += dots(a0.z, b0);
(*s)[3] += dots(a0.w, b0);
}
fn add_tile64(s: ptr<function, Sums64>, x: u32, y: u32) {
for (var q = 0u; q < 4u; q++) {
let row_at = q * 64u + (y ^ (q * 2u));
let column_at = q * 64u + (x ^ (q * 2u));
add64(s, row_at, column_at);
add64(s, row_at + 16u, column_at + 16u);
add64(s, row_at + 32u, column_at + 32u);
add64(s, row_at + 48u, column_at + 48u);
}
}
@compute @workgroup_size(256)
fn product64(@builtin(local_invocation_index) id: u32, @builtin(workgroup_id) group: vec3<u32>) {
let x = id % 16u;
let y = id / 16u;
let first_row = group.x * 64u;
let first_column = group.y * 64u;
let row = first_row + y * 4u;
let at = first_column / 4u + x;
var s = Sums64();
for (var t = 0u; t < sizes.tiles; t++) {
if (flags[first_row / 128u * sizes.tiles + t] != 0u) {
workgroupBarrier();
store(id, 64u, 16u, fetch(id, 64u, first_row, first_column, t, true));
workgroupBarrier();
add_tile64(&s, x, y);
}
}
s[0] = s[0] << vec4(8u);
s[1] = s[1] << vec4(8u);
s[2] = s[2] << vec4(8u);
s[3] = s[3] << vec4(8u);
var next = fetch(id, 64u, first_row, first_column, 0u, false);
for (var t = 0u; t < sizes.tiles; t++) {
workgroupBarrier();
store(id, 64u, 16u, next);
workgroupBarrier();
if (t + 1u < sizes.tiles) {
next = fetch(id, 64u, first_row, first_column, t + 1u, false);
}
add_tile64(&s, x, y);
}
put(row, at, s[0]);
put(row + 1u, at, s[1]);
put(row + 2u, at, s[2]);
put(row + 3u, at, s[3]);
}`,
};
