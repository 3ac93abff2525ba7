// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_symbols.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_symbols.wgsl. */
export const trellisSymbols: Shader = {
  name: "trellis_symbols",
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
@group(0) @binding(0) var<storage, read> limits: array<u32>;
@group(0) @binding(1) var<storage, read> facts: array<u32>;
@group(0) @binding(2) var<storage, read> words: array<u32>;
@group(0) @binding(3) var<storage, read> levels: array<u32>;
@group(0) @binding(4) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;
@group(0) @binding(6) var<uniform> sizes: Sizes;
@group(0) @binding(4) var<storage, read> places: array<u32>;
@group(0) @binding(5) var<storage, read> lengths: array<u32>;
@group(0) @binding(6) var<storage, read> begins: array<u32>;
@group(0) @binding(7) var<storage, read_write> bytes: array<atomic<u32>>;
@group(0) @binding(8) var<uniform> escape_sizes: Sizes;
var<workgroup> tile: array<u32, 1056>;
var<workgroup> sums: array<atomic<u32>, 32>;
struct Symbol {
symbol: u32,
value: u32,
}
fn symbol_of(coded: i32, known: u32, word: u32) -> Symbol {
let level = coded >> 1u;
let table = 2u * class_of(known, word >> 24u) + u32(coded & 1);
let limit = (limits[table >> 2u] >> (8u * (table & 3u))) & 255u;
let z = zigzag(level);
return Symbol(select(escape_of(level), z, z < limit), z - limit);
}
@compute @workgroup_size(256)
fn symbols_of(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
let chunk = group.z;
let first = group.y * 32u;
let t = group.x * 32u + (local >> 3u);
for (var k = 0u; k < 4u; k++) {
let row = (local & 7u) * 4u + k;
let c = first + row;
var entry = 0u;
if (t < sizes.tokens && c < sizes.components) {
let token = chunk * sizes.tokens + t;
let word = words[token];
let coded = halves(levels[(token * sizes.stride + c) >> 1u])[c & 1u];
let symbol = symbol_of(coded, facts[fact_at(sizes, chunk, word, c)], word);
entry = symbol.symbol | select(0u, leb_bytes(symbol.value) << 8u, symbol.symbol >= ESCAPE_ODD);
}
tile[row * 33u + (local >> 3u)] = entry;
}
workgroupBarrier();
let row = local >> 3u;
let at = row * 33u + (local & 7u) * 4u;
let four = vec4(tile[at], tile[at + 1u], tile[at + 2u], tile[at + 3u]);
let begin = group.x * 32u + (local & 7u) * 4u;
let inside = first + row < sizes.components;
if (inside && begin < sizes.tokens) {
let bytes4 = (four & vec4(255u)) << vec4(0u, 8u, 16u, 24u);
let place = (chunk * sizes.components + first + row) * ((sizes.tokens + 3u) >> 2u) + (begin >> 2u);
symbols[place] = bytes4.x | bytes4.y | bytes4.z | bytes4.w;
}
let taken = four >> vec4(8u);
let sum = taken.x + taken.y + taken.z + taken.w;
if (sum > 0u) {
atomicAdd(&sums[row], sum);
}
workgroupBarrier();
if (inside && (local & 7u) == 0u) {
counts[(chunk * sizes.components + first + row) * sizes.groups + group.x] = atomicLoad(&sums[row]);
}
}
@compute @workgroup_size(64)
fn write_escapes(@builtin(global_invocation_id) id: vec3<u32>) {
let count = escape_sizes.components * escape_sizes.groups;
let chunk = id.y;
if (id.x >= count) {
return;
}
let own = chunk * count + id.x;
var end = lengths[chunk];
if (id.x + 1u < count) {
end = places[own + 1u];
}
var at = begins[chunk] + places[own];
if (at == begins[chunk] + end) {
return;
}
let c = id.x / escape_sizes.groups;
let first = (id.x - c * escape_sizes.groups) * 32u;
for (var t = first; t < min(first + 32u, escape_sizes.tokens); t++) {
let token = chunk * escape_sizes.tokens + t;
let word = words[token];
let coded = halves(levels[(token * escape_sizes.stride + c) >> 1u])[c & 1u];
let symbol = symbol_of(coded, facts[fact_at(escape_sizes, chunk, word, c)], word);
if (symbol.symbol >= ESCAPE_ODD) {
for (var rest = symbol.value; ; rest >>= 7u) {
let byte = (rest & 127u) | select(0u, 128u, rest >= 128u);
let shift = 8u * (at & 3u);
atomicAnd(&bytes[at >> 2u], ~(255u << shift));
atomicOr(&bytes[at >> 2u], byte << shift);
at++;
if (rest < 128u) {
break;
}
}
}
}
}`,
};
