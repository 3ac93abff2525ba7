// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_scan.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_scan.wgsl. */
export const trellisScan: Shader = {
  name: "trellis_scan",
  text: `struct Sizes {
chunks: u32,
components: u32,
tokens: u32,
stride: u32,
groups: u32,
begin: u32,
end: u32,
weight: u32,
}
const MODES = 5u;
const ENERGIES = 3u;
const ESCAPE_ODD = 254u;
const STATUS_OK = 0xffffffffu;
const STATUS_TOO_LARGE = 0xf0000001u;
const STATUS_SURPLUS = 0xf0000000u;
fn mode_of(word: u32) -> u32 {
return (word >> 16u) & 255u;
}
fn kind_of(word: u32) -> u32 {
return (ENERGIES * mode_of(word) + (word >> 24u)) & 15u;
}
fn token_class(base: u32, offset: i32, energy: u32) -> u32 {
return u32(clamp(i32(base) + offset + 2 * i32(energy) - 2, 0, 63));
}
fn escapes_in(word: u32, mask: u32) -> u32 {
let x = ~(word | 0x01010101u);
return countOneBits(~(((x & 0x7f7f7f7fu) + 0x7f7f7f7fu) | x | 0x7f7f7f7fu) & mask);
}
fn bytes_between(begin: u32, end: u32) -> u32 {
let before = select(0x80808080u >> (32u - 8u * end), 0u, end == 0u);
return select(before & (0xffffffffu << (8u * begin)), 0u, begin >= end);
}
var<workgroup> sums: array<u32, 256>;
//!subgroups
var<workgroup> taken_places: atomic<u32>;
struct Place {
at: u32,
subgroup: u32,
}
fn place_of(local: u32) -> Place {
let size = subgroupAdd(1u);
var first = 0u;
if (subgroupElect()) {
first = atomicAdd(&taken_places, size | 0x10000u);
}
first = subgroupBroadcastFirst(first);
return Place((first & 0xffffu) + subgroupExclusiveAdd(1u), first >> 16u);
}
fn scan(place: Place, x: u32) -> vec2<u32> {
var before = subgroupExclusiveAdd(x);
let sum = subgroupAdd(x);
if (subgroupElect()) {
sums[place.subgroup] = sum;
}
workgroupBarrier();
let count = atomicLoad(&taken_places) >> 16u;
var all = 0u;
for (var i = 0u; i < count; i++) {
all += sums[i];
before += select(0u, sums[i], i < place.subgroup);
}
workgroupBarrier();
return vec2(before, all);
}
//!else
struct Place {
at: u32,
}
fn place_of(local: u32) -> Place {
return Place(local);
}
fn scan(place: Place, x: u32) -> vec2<u32> {
sums[place.at] = x;
for (var step = 1u; step < 256u; step *= 2u) {
workgroupBarrier();
var other = 0u;
if (place.at >= step) {
other = sums[place.at - step];
}
workgroupBarrier();
sums[place.at] += other;
}
workgroupBarrier();
let result = vec2(sums[place.at] - x, sums[255]);
workgroupBarrier();
return result;
}
//!end
@group(0) @binding(0) var<storage, read> begins: array<u32>;
@group(0) @binding(1) var<storage, read_write> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> status: array<u32>;
@group(0) @binding(3) var<uniform> sizes: Sizes;
@group(0) @binding(0) var<storage, read_write> lengths: array<u32>;
@group(0) @binding(2) var<uniform> length_sizes: Sizes;
fn scan_chunk(chunk: u32, count: u32, local: u32) -> u32 {
let place = place_of(local);
var before = 0u;
for (var base = 0u; base < count; base += 1024u) {
let first = base + 4u * place.at;
var own = array<u32, 4>(0u, 0u, 0u, 0u);
var sum = 0u;
for (var j = 0u; j < 4u; j++) {
if (first + j < count) {
own[j] = places[chunk * count + first + j];
sum += own[j];
}
}
let all = scan(place, sum);
var at = before + all.x;
before += all.y;
for (var j = 0u; j < 4u; j++) {
if (first + j < count) {
places[chunk * count + first + j] = at;
}
at += own[j];
}
}
return before;
}
@compute @workgroup_size(256)
fn scan_counts(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
let chunk = group.x;
let before = scan_chunk(chunk, sizes.components * sizes.groups, local);
if (local == 0u) {
let values = begins[chunk + 1u] - begins[chunk];
status[2u * chunk] = select(STATUS_OK, STATUS_SURPLUS, before < values);
status[2u * chunk + 1u] = 0u;
}
}
@compute @workgroup_size(256)
fn scan_lengths(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
let chunk = group.x;
let sum = scan_chunk(chunk, length_sizes.components * length_sizes.groups, local);
if (local == 0u) {
lengths[chunk] = sum;
}
}`,
};
