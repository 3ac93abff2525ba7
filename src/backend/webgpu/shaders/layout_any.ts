// Made by `deno run -A tools/build_wgsl.ts` from wgsl/layout_any.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/layout_any.wgsl. */
export const layoutAny: Shader = {
  name: "layout_any",
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
struct Tile {
blocks: u32,
tokens: u32,
dim: u32,
half: u32,
source: u32,
block_stride: u32,
rows: u32,
row_stride: u32,
rotation: u32,
column: u32,
zero: u32,
units: u32,
count: u32,
columns: u32,
token_scales: u32,
}
fn rounded(x: f32, zero: u32) -> f32 {
return bitcast<f32>(bitcast<u32>(x) ^ zero);
}
fn rounded4(x: vec4<f32>, zero: u32) -> vec4<f32> {
return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ vec4(zero));
}
override DTYPE: u32 = 0u;
override ROTATED: bool = false;
override CENTRED: bool = false;
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read> turns: array<f32>;
@group(0) @binding(2) var<storage, read> means: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<u32>;
@group(0) @binding(4) var<uniform> tile: Tile;
fn element(at: u32) -> u32 {
if (DTYPE == 0u) {
return source[at];
}
let bits = (source[at / 2u] >> (16u * (at & 1u))) & 0xffffu;
if (DTYPE == 1u) {
return widen_f16(bits);
}
return bits << 16u;
}
fn feature(row: u32, column: u32) -> u32 {
let x = source[row];
if (CENTRED) {
return bitcast<u32>(bitcast<f32>(x) + means[column]);
}
return x;
}
fn turned(own: u32, other: u32, token: u32, i: u32) -> u32 {
let second = i >= tile.half;
let turn = tile.rotation + token * 2u * tile.half + select(i, i - tile.half, second);
let a = rounded(bitcast<f32>(own) * turns[turn], tile.zero);
let b = rounded(bitcast<f32>(other) * turns[turn + tile.half], tile.zero);
return bitcast<u32>(select(a - b, a + b, second));
}
@compute @workgroup_size(256)
fn gather(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 256u + local;
let column = id % tile.columns;
let token = id / tile.columns;
if (token >= tile.tokens) {
return;
}
let block = column / tile.dim;
let i = column % tile.dim;
var x = 0u;
if (block < tile.blocks) {
let head = tile.source + block * tile.block_stride + token * tile.dim;
x = element(head + i);
if (ROTATED && i < 2u * tile.half) {
x = turned(x, element(head + select(i + tile.half, i - tile.half, i >= tile.half)), token, i);
}
if (CENTRED) {
x = bitcast<u32>(bitcast<f32>(x) - means[tile.column + column]);
}
}
result[tile.rows + token * tile.row_stride + column] = x;
}
fn restored(at: u32) -> u32 {
let head = at / tile.dim;
let i = at % tile.dim;
let block = head / tile.tokens;
let token = head % tile.tokens;
let row = tile.rows + token * tile.row_stride + block * tile.dim;
let column = tile.column + block * tile.dim;
var x = feature(row + i, column + i);
if (ROTATED && i < 2u * tile.half) {
let other = select(i + tile.half, i - tile.half, i >= tile.half);
x = turned(x, feature(row + other, column + other), token, i);
}
if (DTYPE == 1u) {
return narrow_f16(x);
}
if (DTYPE == 2u) {
return narrow_bf16(x);
}
return x;
}
@compute @workgroup_size(256)
fn scatter(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 256u + local;
if (DTYPE == 0u) {
if (id < tile.count) {
result[tile.source + id] = restored(id);
}
return;
}
let word = tile.source / 2u + id;
let end = tile.source + tile.count;
if (2u * word >= end) {
return;
}
var bits = result[word];
if (2u * word >= tile.source) {
bits = (bits & 0xffff0000u) | restored(2u * word - tile.source);
}
if (2u * word + 1u < end) {
bits = (bits & 0xffffu) | (restored(2u * word + 1u - tile.source) << 16u);
}
result[word] = bits;
}`,
};
