// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_places.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_places.wgsl. */
export const trellisPlaces: Shader = {
  name: "trellis_places",
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
@group(0) @binding(0) var<storage, read> symbols: array<u32>;
@group(0) @binding(1) var<storage, read_write> places: array<u32>;
@group(0) @binding(2) var<uniform> sizes: Sizes;
@compute @workgroup_size(64)
fn count_escapes(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 64u + local;
if (id >= sizes.chunks * sizes.components * sizes.groups) {
return;
}
let row = id / sizes.groups;
let first = (id - row * sizes.groups) * 32u;
let begin = row * sizes.tokens + first;
let end = begin + min(32u, sizes.tokens - first);
var count = 0u;
for (var word = begin >> 2u; word << 2u < end; word++) {
let at = word << 2u;
count += escapes_in(symbols[word], bytes_between(max(begin, at) - at, min(end - at, 4u)));
}
places[id] = count;
}`,
};
