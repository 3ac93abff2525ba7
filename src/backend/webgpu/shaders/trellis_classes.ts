// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_classes.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_classes.wgsl. */
export const trellisClasses: Shader = {
  name: "trellis_classes",
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
@group(0) @binding(0) var<storage, read> base: array<u32>;
@group(0) @binding(1) var<storage, read> models: array<u32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read> limits: array<u32>;
@group(0) @binding(4) var<storage, read_write> bounds: array<u32>;
@group(0) @binding(5) var<uniform> sizes: Sizes;
@group(0) @binding(3) var<storage, read_write> classes: array<u32>;
@group(0) @binding(4) var<uniform> class_sizes: Sizes;
fn base_at(model: u32, mode: u32, c: u32, components: u32) -> u32 {
let i = (model * MODES + mode) * components + c;
return (base[i >> 2u] >> (8u * (i & 3u))) & 255u;
}
fn offset_at(i: u32) -> i32 {
return bitcast<i32>(offsets[i >> 2u] << (24u - 8u * (i & 3u))) >> 24u;
}
@compute @workgroup_size(64)
fn bounds_of(@builtin(global_invocation_id) id: vec3<u32>) {
let c = id.x;
let chunk = id.y;
if (c >= sizes.components) {
return;
}
let i = chunk * sizes.components + c;
let offset = offset_at(i);
for (var pair = 0u; pair < 8u; pair++) {
var both = 0u;
for (var j = 0u; j < 2u; j++) {
let kind = 2u * pair + j;
if (kind < MODES * ENERGIES) {
let index = base_at(models[chunk], kind / ENERGIES, c, sizes.components);
let table = 2u * token_class(index, offset, kind % ENERGIES);
both |= ((limits[table >> 2u] >> (8u * (table & 3u))) & 0xffffu) << (16u * j);
}
}
bounds[i * 8u + pair] = both;
}
}
@compute @workgroup_size(64)
fn classes_of(@builtin(global_invocation_id) id: vec3<u32>) {
let c = id.x;
let chunk = id.y;
if (c >= class_sizes.components) {
return;
}
let i = chunk * class_sizes.components + c;
let offset = offset_at(i);
for (var word = 0u; word < 4u; word++) {
var four = 0u;
for (var j = 0u; j < 4u; j++) {
let kind = 4u * word + j;
if (kind < MODES * ENERGIES) {
let index = base_at(models[chunk], kind / ENERGIES, c, class_sizes.components);
four |= token_class(index, offset, kind % ENERGIES) << (8u * j);
}
}
classes[i * 4u + word] = four;
}
}`,
};
