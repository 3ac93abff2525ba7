// Made by `deno run -A tools/build_wgsl.ts` from wgsl/symbols.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/symbols.wgsl. */
export const symbols: Shader = {
  name: "symbols",
  text: `struct Args {
count: u32,
stride: u32,
tokens: u32,
rows: u32,
chunk: u32,
across: u32,
down: u32,
sourceSkip: u32,
resultSkip: u32,
unused0: u32,
unused1: u32,
unused2: u32,
};
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<uniform> args: Args;
var<workgroup> square: array<u32, 1088>;
fn byteAt(place: u32) -> u32 {
let at = args.sourceSkip + place;
return (source[at / 4u] >> (at % 4u * 8u)) & 255u;
}
@compute @workgroup_size(256)
fn transpose(
@builtin(local_invocation_index) id: u32,
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
) {
let word = (group.y * groups.x + group.x) * 256u + id;
if (word >= args.count) {
return;
}
let total = args.tokens * args.rows;
var four = result[word];
for (var k = 0u; k < 4u; k++) {
let at = 4u * word + k - args.resultSkip;
if (at < total) {
let first = at / (args.chunk * args.rows) * args.chunk;
let length = min(args.chunk, args.tokens - first);
let own = at - first * args.rows;
let at_ = (first + own % length) * args.stride + own / length;
four = (four & ~(255u << (8u * k))) | (byteAt(at_) << (8u * k));
}
}
result[word] = four;
}
@compute @workgroup_size(256)
fn untranspose(
@builtin(local_invocation_index) id: u32,
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
) {
let word = (group.y * groups.x + group.x) * 256u + id;
if (word >= args.count) {
return;
}
var four = result[word];
for (var k = 0u; k < 4u; k++) {
let at = 4u * word + k - args.resultSkip;
let t = at / args.stride;
let row = at % args.stride;
if (4u * word + k >= args.resultSkip && t < args.tokens && row < args.rows) {
let first = t / args.chunk * args.chunk;
let length = min(args.chunk, args.tokens - first);
four = (four & ~(255u << (8u * k))) | (byteAt(first * args.rows + row * length + t - first) << (8u * k));
}
}
result[word] = four;
}
@compute @workgroup_size(256)
fn unpad(
@builtin(local_invocation_index) id: u32,
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
) {
let word = (group.y * groups.x + group.x) * 256u + id;
if (word >= args.count) {
return;
}
let total = args.tokens * args.rows;
var four = result[word];
for (var k = 0u; k < 4u; k++) {
let at = 4u * word + k - args.resultSkip;
if (at < total) {
four = (four & ~(255u << (8u * k))) | (byteAt(at / args.tokens * args.down + at % args.tokens) << (8u * k));
}
}
result[word] = four;
}
fn transposeSquare(id: u32, begin: u32, stride: u32, height: u32, width: u32, to: u32, toStride: u32) {
let i = id % 16u;
let j = id / 16u;
var w: array<u32, 4>;
for (var k = 0u; k < 4u; k++) {
let y = 4u * j + k;
w[k] = 0u;
if (y < height && 4u * i < width) {
w[k] = source[args.sourceSkip / 4u + begin + y * stride + i];
}
}
for (var k = 0u; k < 4u; k++) {
let shift = 8u * k;
square[(4u * i + k) * 17u + j] = ((w[0] >> shift) & 255u) | (((w[1] >> shift) & 255u) << 8u) |
(((w[2] >> shift) & 255u) << 16u) | (((w[3] >> shift) & 255u) << 24u);
}
workgroupBarrier();
for (var k = 0u; k < 4u; k++) {
let x = 16u * k + j;
if (x < width && 4u * i < height) {
var word = square[x * 17u + i];
let at = args.resultSkip / 4u + to + x * toStride + i;
if (4u * i + 4u > height) {
let own = (1u << (8u * (height - 4u * i))) - 1u;
word = (word & own) | (result[at] & ~own);
}
result[at] = word;
}
}
}
@compute @workgroup_size(256)
fn transposeWords(
@builtin(local_invocation_index) id: u32,
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
) {
let item = group.y * groups.x + group.x;
let column = item % args.across * 64u;
let y = item / args.across % args.down * 64u;
let first = item / args.across / args.down * args.chunk;
if (item >= args.count || first + y >= args.tokens) {
return;
}
let length = min(args.chunk, args.tokens - first);
if (y >= length) {
return;
}
let to = (first * args.rows + column * length + y) / 4u;
transposeSquare(
id, ((first + y) * args.stride + column) / 4u, args.stride / 4u, length - y, args.rows - column, to, length / 4u);
}
@compute @workgroup_size(256)
fn untransposeWords(
@builtin(local_invocation_index) id: u32,
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
) {
let item = group.y * groups.x + group.x;
let column = item % args.across * 64u;
let y = item / args.across % args.down * 64u;
let first = item / args.across / args.down * args.chunk;
if (item >= args.count || first + y >= args.tokens) {
return;
}
let length = min(args.chunk, args.tokens - first);
if (y >= length) {
return;
}
let begin = (first * args.rows + column * length + y) / 4u;
transposeSquare(
id, begin, length / 4u, args.rows - column, length - y, ((first + y) * args.stride + column) / 4u, args.stride / 4u);
}`,
};
