// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_walk.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_walk.wgsl. */
export const trellisWalk: Shader = {
  name: "trellis_walk",
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
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read> begins: array<u32>;
@group(0) @binding(4) var<storage, read> words: array<u32>;
@group(0) @binding(5) var<storage, read> bounds: array<u32>;
@group(0) @binding(6) var<storage, read_write> quarters: array<u32>;
@group(0) @binding(7) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(8) var<uniform> sizes: Sizes;
const TOKENS = 64u;
const COMPONENTS = 32u;
const ROW = 17u;
const MAX_CODE = 0x2000000u;
var<workgroup> tile: array<u32, 1088>;
var<workgroup> limits: array<u32, 256>;
fn next_state(state: u32, parity: u32) -> u32 {
return (select(0x62042640u, 0x73153751u, state >= 4u) >> (((state & 3u) << 3u) | (parity << 2u))) & 7u;
}
fn escapes_between(begin: u32, end: u32) -> u32 {
var count = 0u;
for (var word = begin >> 2u; word << 2u < end; word++) {
let at = word << 2u;
count += escapes_in(symbols[word], bytes_between(max(begin, at) - at, min(end - at, 4u)));
}
return count;
}
@compute @workgroup_size(64)
fn walk(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
let chunk = group.y;
let first = group.x * TOKENS;
let t = first + local;
let present = t < sizes.tokens;
var kind = 0u;
if (present) {
kind = kind_of(words[chunk * sizes.tokens + t]);
}
let values_begin = begins[chunk];
let values_count = begins[chunk + 1u] - values_begin;
var state = 0u;
var error = STATUS_OK;
for (var c0 = 0u; c0 < sizes.stride; c0 += COMPONENTS) {
let here = min(COMPONENTS, sizes.components - min(c0, sizes.components));
workgroupBarrier();
for (var i = local; i < here * 8u; i += TOKENS) {
limits[i] = bounds[(chunk * sizes.components + c0) * 8u + i];
}
workgroupBarrier();
var even = 0u;
for (var k = 0u; k < COMPONENTS; k++) {
var residual = 0;
if (k < here && present) {
let row = chunk * sizes.components + c0 + k;
let at = row * sizes.tokens + t;
let symbol = (symbols[at >> 2u] >> (8u * (at & 3u))) & 255u;
let limit = (limits[k * 8u + (kind >> 1u)] >> (16u * (kind & 1u) + 8u * (state >> 2u))) & 255u;
var z = symbol;
if (symbol >= ESCAPE_ODD) {
let rank = places[row * sizes.groups + (t >> 5u)] + escapes_between(at - (t & 31u), at);
var value = 0xffffffffu;
if (rank < values_count) {
value = values[values_begin + rank];
}
z = select(0xffffffffu, value + limit, value < MAX_CODE);
if (z > MAX_CODE || ((((z + 1u) >> 1u) ^ ((symbol + 1u) >> 1u)) & 1u) != 0u) {
error = min(error, ((c0 + k) * sizes.tokens + t) << 2u);
z = 0u;
}
} else if (symbol >= limit) {
error = min(error, (((c0 + k) * sizes.tokens + t) << 2u) | 1u);
}
var magnitude = min((z + 1u) & 0xfffffffeu, 65534u);
magnitude -= select(0u, 1u, magnitude > 0u && state >= 4u);
magnitude = min(magnitude, 32767u);
residual = select(-i32(magnitude), i32(magnitude), (z & 1u) == 1u);
state = next_state(state, ((symbol + 1u) >> 1u) & 1u);
}
if ((k & 1u) == 1u) {
tile[local * ROW + (k >> 1u)] = (even & 0xffffu) | (bitcast<u32>(residual) << 16u);
} else {
even = bitcast<u32>(residual);
}
}
workgroupBarrier();
let half = local & 15u;
for (var r = local >> 4u; r < TOKENS; r += 4u) {
if (first + r < sizes.tokens && c0 + 2u * half < sizes.stride) {
quarters[((chunk * sizes.tokens + first + r) * sizes.stride + c0) / 2u + half] = tile[r * ROW + half];
}
}
}
if (error != STATUS_OK) {
atomicMin(&status[2u * chunk], error);
}
}`,
};
