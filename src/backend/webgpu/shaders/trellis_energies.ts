// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_energies.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_energies.wgsl. */
export const trellisEnergies: Shader = {
  name: "trellis_energies",
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
fn halves(word: u32) -> vec2<i32> {
return vec2(bitcast<i32>(word << 16u) >> 16u, bitcast<i32>(word) >> 16u);
}
fn joined(pair: vec2<i32>) -> u32 {
return (bitcast<u32>(pair.x) & 0xffffu) | (bitcast<u32>(pair.y) << 16u);
}
fn fact_at(sizes: Sizes, chunk: u32, word: u32, c: u32) -> u32 {
return (chunk * MODES + min(mode_of(word), MODES - 1u)) * sizes.components + c;
}
fn factor_of(facts: u32) -> i32 {
return bitcast<i32>(facts << 24u) >> 24u;
}
fn base_of(facts: u32) -> u32 {
return (facts >> 8u) & 255u;
}
fn class_of(facts: u32, energy: u32) -> u32 {
return token_class(base_of(facts), bitcast<i32>(facts << 8u) >> 24u, energy);
}
fn zigzag(level: i32) -> u32 {
return u32(select(-2 * level, 2 * level - 1, level > 0));
}
fn escape_of(level: i32) -> u32 {
return ESCAPE_ODD + 1u - u32(level & 1);
}
fn leb_bytes(value: u32) -> u32 {
return 1u + u32(value >= 0x80u) + u32(value >= 0x4000u) + u32(value >= 0x200000u);
}
const LIMITS = 16384u;
@group(0) @binding(0) var<storage, read> rates: array<u32>;
fn level_bits(table: u32, level: i32) -> u32 {
let z = zigzag(level);
let limit = (rates[LIMITS + (table >> 2u)] >> (8u * (table & 3u))) & 255u;
let escaped = z >= limit;
let i = table * 256u + select(z, escape_of(level), escaped);
let bits = (rates[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
return bits + select(0u, 2048u * leb_bytes(z - limit), escaped);
}
@group(0) @binding(1) var<storage, read> facts: array<u32>;
@group(0) @binding(2) var<storage, read> levels: array<u32>;
@group(0) @binding(3) var<storage, read_write> words: array<u32>;
@group(0) @binding(4) var<uniform> sizes: Sizes;
@group(0) @binding(3) var<storage, read> token_words: array<u32>;
@group(0) @binding(4) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(5) var<uniform> offset_sizes: Sizes;
//!subgroups
var<workgroup> sums: array<atomic<u32>, ENERGIES>;
//!else
var<workgroup> sums: array<vec3<u32>, 64>;
//!end
var<workgroup> chosen: array<u32, 64>;
@compute @workgroup_size(64)
fn energies(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let i = group.y * groups.x + group.x;
let tokens = sizes.end - sizes.begin;
let chunk = i / tokens;
if (chunk >= sizes.chunks) {
return;
}
let token = chunk * sizes.tokens + sizes.begin + i - chunk * tokens;
let word = words[token];
var sum = vec3(0u);
for (var c = local; c < sizes.components; c += 64u) {
let coded = halves(levels[(token * sizes.stride + c) >> 1u])[c & 1u];
let fact = facts[fact_at(sizes, chunk, word, c)];
for (var energy = 0u; energy < ENERGIES; energy++) {
sum[energy] += level_bits(2u * class_of(fact, energy) + u32(coded & 1), coded >> 1u);
}
}
//!subgroups
for (var energy = 0u; energy < ENERGIES; energy++) {
let all = subgroupAdd(sum[energy]);
if (subgroupElect()) {
atomicAdd(&sums[energy], all);
}
}
workgroupBarrier();
//!else
sums[local] = sum;
for (var step = 32u; step > 0u; step >>= 1u) {
workgroupBarrier();
if (local < step) {
sums[local] += sums[local + step];
}
}
//!end
if (local == 0u) {
//!subgroups
let bits = vec3(atomicLoad(&sums[0]), atomicLoad(&sums[1]), atomicLoad(&sums[2]));
//!else
let bits = sums[0];
//!end
var best = select(1u, 0u, bits.x < bits.y);
best = select(best, 2u, bits.z < min(bits.x, bits.y));
words[token] = (word & 0xffffffu) | (best << 24u);
}
}
@compute @workgroup_size(64)
fn choose_offsets(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let i = (group.y * groups.x + group.x) * 64u + local;
let chunk = i / offset_sizes.components;
let c = i - chunk * offset_sizes.components;
var best = 0;
if (chunk < offset_sizes.chunks) {
var bits = array<u32, 5>(768u, 768u, 0u, 768u, 768u);
for (var t = 0u; t < offset_sizes.tokens; t++) {
let token = chunk * offset_sizes.tokens + t;
let word = token_words[token];
let coded = halves(levels[(token * offset_sizes.stride + c) >> 1u])[c & 1u];
let index = base_of(facts[fact_at(offset_sizes, chunk, word, c)]);
for (var j = 0; j < 5; j++) {
let table = 2u * token_class(index, 2 * j - 4, word >> 24u) + u32(coded & 1);
bits[j] += level_bits(table, coded >> 1u);
}
}
var least = bits[2];
for (var j = 0; j < 5; j++) {
if (bits[j] < least) {
least = bits[j];
best = 2 * j - 4;
}
}
}
chosen[local] = bitcast<u32>(best) & 255u;
workgroupBarrier();
if ((local & 3u) == 0u && chunk < offset_sizes.chunks) {
offsets[i >> 2u] = chosen[local] | (chosen[local + 1u] << 8u) | (chosen[local + 2u] << 16u) | (chosen[local + 3u] << 24u);
}
}`,
};
