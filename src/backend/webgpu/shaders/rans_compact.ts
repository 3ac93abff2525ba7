// Made by `deno run -A tools/build_wgsl.ts` from wgsl/rans_compact.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/rans_compact.wgsl. */
export const ransCompact: Shader = {
  name: "rans_compact",
  text: `var<workgroup> sums: array<u32, 256>;
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
struct Args {
streams: u32,
first: u32,
slotWords: u32,
parts: u32,
};
@group(0) @binding(0) var<storage, read_write> lengths: array<u32>;
@group(0) @binding(1) var<storage, read_write> begins: array<u32>;
@group(0) @binding(2) var<uniform> sumArgs: Args;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> bytes: array<u32>;
@group(0) @binding(4) var<uniform> compactArgs: Args;
const ABSENT = 0xffffffffu;
@compute @workgroup_size(256)
fn sum(@builtin(local_invocation_index) id: u32) {
let place = place_of(id);
var before = 0u;
for (var base = 0u; base < sumArgs.streams; base += 1024u) {
var own: array<u32, 4>;
var total = 0u;
let first = base + 4u * place.at;
for (var k = 0u; k < 4u; k++) {
own[k] = total;
let i = first + k;
if (i < sumArgs.streams) {
let length = lengths[i];
total += select((length + 3u) & ~3u, 0u, length == ABSENT);
}
}
let sum = scan(place, total);
for (var k = 0u; k < 4u; k++) {
if (first + k < sumArgs.streams) {
begins[first + k] = before + sum.x + own[k];
}
}
before += sum.y;
}
if (id == 0u) {
begins[sumArgs.streams] = before;
}
}
@compute @workgroup_size(256)
fn compact(
@builtin(local_invocation_index) id: u32,
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
) {
let item = group.y * groups.x + group.x;
let own = item / compactArgs.parts;
if (own >= compactArgs.streams) {
return;
}
let length = lengths[compactArgs.first + own];
if (length == ABSENT) {
return;
}
let count = (length + 3u) / 4u;
let source = (own + 1u) * compactArgs.slotWords - count;
let target_ = begins[compactArgs.first + own] / 4u;
let part = item % compactArgs.parts * 1024u;
for (var i = part + id; i < min(part + 1024u, count); i += 256u) {
var word = slots[source + i];
if ((length & 2u) != 0u) {
word >>= 16u;
if (i + 1u < count) {
word |= slots[source + i + 1u] << 16u;
}
}
bytes[target_ + i] = word;
}
}`,
};
