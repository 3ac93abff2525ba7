// Made by `deno run -A tools/build_wgsl.ts` from wgsl/scatter_sums.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/scatter_sums.wgsl. */
export const scatterSums: Shader = {
  name: "scatter_sums",
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
struct Pair { low: vec4<u32>, high: vec4<u32> }
fn turned(x: vec4<u32>, y: vec4<u32>, c: vec4<f32>, s: vec4<f32>) -> Pair {
let a = bitcast<vec4<f32>>(x);
let b = bitcast<vec4<f32>>(y);
let low = rounded4(a * c, tile.zero) - rounded4(b * s, tile.zero);
let high = rounded4(b * c, tile.zero) + rounded4(a * s, tile.zero);
return Pair(bitcast<vec4<u32>>(low), bitcast<vec4<u32>>(high));
}
fn narrow(bits: u32) -> u32 {
if (DTYPE == 1u) {
return narrow_f16(bits);
}
return narrow_bf16(bits);
}
fn pair(low: u32, high: u32) -> u32 {
return narrow(low) | (narrow(high) << 16u);
}
fn store(at: u32, low: vec4<u32>, high: vec4<u32>) {
if (DTYPE == 0u) {
elements[at / 4u] = low;
elements[at / 4u + 1u] = high;
} else {
elements[at / 8u] = vec4(pair(low.x, low.y), pair(low.z, low.w), pair(high.x, high.y), pair(high.z, high.w));
}
}
@compute @workgroup_size(256)
fn scatter(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 256u + local;
let unit = id % tile.units;
let token = id / tile.units % tile.tokens;
let block = id / tile.units / tile.tokens;
if (block >= tile.blocks) {
return;
}
let pairs = select(0u, tile.half / 8u, ROTATED);
let dim = select(8u * (unit + pairs), 8u * unit, unit < pairs);
let source = tile.source + block * tile.block_stride + token * tile.dim + dim;
let column = tile.column + block * tile.dim + dim;
let row = tile.rows + token * tile.row_stride + block * tile.dim + dim;
let low = load(row, column, token);
let high = load(row + 4u, column + 4u, token);
if (ROTATED && unit < pairs) {
let turn = (tile.rotation + token * 2u * tile.half + dim) / 4u;
let q = tile.half / 4u;
let first = turned(low, load(row + tile.half, column + tile.half, token), turns[turn], turns[turn + q]);
let second = turned(
high,
load(row + tile.half + 4u, column + tile.half + 4u, token),
turns[turn + 1u],
turns[turn + q + 1u],
);
store(source, first.low, second.low);
store(source + tile.half, first.high, second.high);
} else {
store(source, low, high);
}
}
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
}`,
};
