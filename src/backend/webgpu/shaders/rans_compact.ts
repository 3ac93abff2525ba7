// Made by `deno run -A tools/build_wgsl.ts` from wgsl/rans_compact.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/rans_compact.wgsl. */
export const ransCompact: Shader = {
  name: "rans_compact",
  text: `struct Args {
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
var<workgroup> sums: array<u32, 256>;
@compute @workgroup_size(256)
fn sum(@builtin(local_invocation_index) id: u32) {
var before = 0u;
for (var base = 0u; base < sumArgs.streams; base += 1024u) {
var own: array<u32, 4>;
var total = 0u;
for (var k = 0u; k < 4u; k++) {
own[k] = total;
let i = base + 4u * id + k;
if (i < sumArgs.streams) {
let length = lengths[i];
total += select((length + 3u) & ~3u, 0u, length == ABSENT);
}
}
sums[id] = total;
workgroupBarrier();
for (var d = 1u; d < 256u; d *= 2u) {
var other = 0u;
if (id >= d) {
other = sums[id - d];
}
workgroupBarrier();
sums[id] += other;
workgroupBarrier();
}
for (var k = 0u; k < 4u; k++) {
let i = base + 4u * id + k;
if (i < sumArgs.streams) {
begins[i] = before + sums[id] - total + own[k];
}
}
before += sums[255];
workgroupBarrier();
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
