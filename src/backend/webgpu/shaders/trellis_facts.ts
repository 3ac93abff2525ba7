// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_facts.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_facts.wgsl. */
export const trellisFacts: Shader = {
  name: "trellis_facts",
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
override OFFSETS: bool = false;
@group(0) @binding(0) var<storage, read> rho: array<u32>;
@group(0) @binding(1) var<storage, read> base: array<u32>;
@group(0) @binding(2) var<storage, read> models: array<u32>;
@group(0) @binding(3) var<storage, read> offsets: array<u32>;
@group(0) @binding(4) var<storage, read_write> facts: array<u32>;
@group(0) @binding(5) var<uniform> sizes: Sizes;
@compute @workgroup_size(64)
fn facts_of(@builtin(global_invocation_id) id: vec3<u32>) {
let c = id.x;
let chunk = id.y;
if (c >= sizes.components) {
return;
}
var offset = 0u;
if (OFFSETS) {
let i = chunk * sizes.components + c;
offset = (offsets[i >> 2u] >> (8u * (i & 3u))) & 255u;
}
for (var mode = 0u; mode < MODES; mode++) {
let i = (models[chunk] * MODES + mode) * sizes.components + c;
let factor = (rho[i >> 2u] >> (8u * (i & 3u))) & 255u;
let index = (base[i >> 2u] >> (8u * (i & 3u))) & 255u;
facts[(chunk * MODES + mode) * sizes.components + c] = factor | (index << 8u) | (offset << 16u);
}
}`,
};
