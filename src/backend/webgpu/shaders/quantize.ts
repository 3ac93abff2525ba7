// Made by `deno run -A tools/build_wgsl.ts` from wgsl/quantize.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/quantize.wgsl. */
export const quantize: Shader = {
  name: "quantize",
  text: `const LEAST_F16 = 5.9604644775390625e-08;
fn widen_f16(h: u32) -> u32 {
let magnitude = h & 0x7fffu;
var bits = (magnitude << 13u) + 0x38000000u;
bits = select(bits, (magnitude << 13u) | 0x7f800000u, magnitude >= 0x7c00u);
bits = select(bits, bitcast<u32>(f32(magnitude) * LEAST_F16), magnitude < 0x400u);
return bits | ((h & 0x8000u) << 16u);
}
fn widen_f16x4(h: vec4<u32>) -> vec4<u32> {
let magnitude = h & vec4(0x7fffu);
var bits = (magnitude << vec4(13u)) + vec4(0x38000000u);
bits = select(bits, (magnitude << vec4(13u)) | vec4(0x7f800000u), magnitude >= vec4(0x7c00u));
bits = select(bits, bitcast<vec4<u32>>(vec4<f32>(magnitude) * LEAST_F16), magnitude < vec4(0x400u));
return bits | ((h & vec4(0x8000u)) << vec4(16u));
}
fn narrow_f16(bits: u32) -> u32 {
let sign = (bits >> 16u) & 0x8000u;
let m = bits & 0x7fffffffu;
if (m >= 0x477ff000u) {
return sign | select(0x7c00u, 0x7e00u, m > 0x7f800000u);
}
if (m < 0x38800000u) {
if (m <= 0x33000000u) {
return sign;
}
let shift = 126u - (m >> 23u);
let fraction = (m & 0x7fffffu) | 0x800000u;
let low = fraction >> shift;
let rest = fraction & ((1u << shift) - 1u);
let half = 1u << (shift - 1u);
return sign | (low + select(0u, 1u, rest > half || (rest == half && (low & 1u) == 1u)));
}
return sign | ((m - 0x38000000u + 0xfffu + ((m >> 13u) & 1u)) >> 13u);
}
fn narrow_bf16(bits: u32) -> u32 {
let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
return select(rounded, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}
const INFINITY_F16 = 0x7c00u;
fn middle_f16(h: u32) -> f32 {
if (h < 0x400u) {
return f32(2u * h + 1u) * 2.98023223876953125e-08;
}
return bitcast<f32>((h << 13u) + 0x38001000u);
}
fn scale_of(range: f32, levels: f32) -> u32 {
if (bitcast<u32>(range) >= 0x7f800000u) {
return INFINITY_F16;
}
var h = narrow_f16(bitcast<u32>(range * (1.0 / levels)));
let odd = (h & 1u) == 1u;
if (h > 0u) {
let low = middle_f16(h - 1u) * levels;
if (range < low || (range == low && odd)) {
return h - 1u;
}
}
if (h < INFINITY_F16) {
let high = middle_f16(h) * levels;
if (range > high || (range == high && odd)) {
return h + 1u;
}
}
return h;
}
struct Step {
shift: f32,
scale: f32,
inverse: f32,
levels: f32,
fixed: bool,
code: u32,
}
fn step_of(shift: u32, scale: u32, levels: u32) -> Step {
let s = bitcast<f32>(widen_f16(scale));
let no_scale = scale == 0u || scale >= INFINITY_F16;
let no_shift = (shift & 0x7fffu) >= INFINITY_F16;
let code = select(0u, levels, !no_scale && no_shift && (shift & 0x8000u) != 0u);
return Step(bitcast<f32>(widen_f16(shift)), s, 1.0 / s, f32(levels), no_scale || no_shift, code);
}
fn codes_integer(x: vec4<f32>, step: Step) -> u32 {
if (step.fixed) {
return step.code * 0x1010101u;
}
let d = x - vec4(step.shift);
var q = clamp(round(d * step.inverse), vec4(0.0), vec4(step.levels));
let rest = d - q * step.scale;
let half = vec4(0.5 * step.scale);
let odd = fract(q * 0.5) != vec4(0.0);
let up = (rest > half) | ((rest == half) & odd);
let down = (rest < -half) | ((rest == -half) & odd);
q += select(vec4(0.0), vec4(1.0), up & (q < vec4(step.levels)));
q -= select(vec4(0.0), vec4(1.0), down & (q > vec4(0.0)));
let codes = vec4<u32>(q);
return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u);
}
fn code_integer(x: f32, shift: u32, scale: u32, levels: u32) -> u32 {
if (scale == 0u || scale >= INFINITY_F16) {
return 0u;
}
if ((shift & 0x7fffu) >= INFINITY_F16) {
return select(0u, levels, (shift & 0x8000u) != 0u);
}
let d = x - bitcast<f32>(widen_f16(shift));
let s = bitcast<f32>(widen_f16(scale));
let q = clamp(floor(d * (1.0 / s) + 0.5), 0.0, f32(levels));
let code = u32(q);
let odd = (code & 1u) == 1u;
let low = (q - 0.5) * s;
let high = (q + 0.5) * s;
if (code > 0u && (d < low || (d == low && odd))) {
return code - 1u;
}
if (code < levels && (d > high || (d == high && odd))) {
return code + 1u;
}
return code;
}
fn middle_e4m3(e: u32) -> f32 {
if (e < 8u) {
return (f32(e) + 0.5) * 0.001953125;
}
return bitcast<f32>(((e + 960u) << 20u) + 0x80000u);
}
fn code_e4m3(x: f32, scale: u32) -> u32 {
let bits = bitcast<u32>(x);
let sign = (bits >> 24u) & 0x80u;
if (scale == 0u) {
return 0u;
}
if (scale >= INFINITY_F16) {
return select(sign, 0x7fu, (bits & 0x7fffffffu) >= 0x7f800000u);
}
let magnitude = bitcast<f32>(bits & 0x7fffffffu);
let s = bitcast<f32>(widen_f16(scale));
let quotient = min(magnitude * (1.0 / s), 448.0);
var e = u32(quotient * 512.0 + 0.5);
if (quotient >= 0.015625) {
e = min(((bitcast<u32>(quotient) + 0x80000u) >> 20u) - 960u, 0x7eu);
}
let odd = (e & 1u) == 1u;
if (e > 0u) {
let low = middle_e4m3(e - 1u) * s;
if (magnitude < low || (magnitude == low && odd)) {
return sign | (e - 1u);
}
}
if (e < 0x7eu) {
let high = middle_e4m3(e) * s;
if (magnitude > high || (magnitude == high && odd)) {
return sign | (e + 1u);
}
}
return sign | e;
}
fn value_integer(code: u32, shift: u32, scale: u32) -> u32 {
let infinite_scale = (scale & 0x7fffu) == INFINITY_F16;
let infinite_shift = (shift & 0x7fffu) == INFINITY_F16;
let nan = (scale & 0x7fffu) > INFINITY_F16 || (shift & 0x7fffu) > INFINITY_F16 || (infinite_scale && code == 0u) ||
(infinite_scale && infinite_shift && scale != shift);
if (nan) {
return 0x7fc00000u;
}
if (infinite_scale) {
return widen_f16(scale);
}
if (infinite_shift) {
return widen_f16(shift);
}
return bitcast<u32>(f32(code) * bitcast<f32>(widen_f16(scale)) + bitcast<f32>(widen_f16(shift)));
}
fn value_e4m3(code: u32, scale: u32) -> u32 {
let e = code & 0x7fu;
let sign = ((code & 0x80u) << 24u) ^ ((scale & 0x8000u) << 16u);
let s = scale & 0x7fffu;
if (e == 0x7fu || s > INFINITY_F16 || (s == INFINITY_F16 && e == 0u)) {
return 0x7fc00000u;
}
if (s == INFINITY_F16) {
return sign | 0x7f800000u;
}
let value = select(bitcast<f32>((e + 960u) << 20u), f32(e) * 0.001953125, e < 8u);
return sign | bitcast<u32>(value * bitcast<f32>(widen_f16(s)));
}
fn values_e4m3(word: u32, scale: u32) -> vec4<u32> {
let codes = vec4(word, word >> 8u, word >> 16u, word >> 24u) & vec4(0xffu);
let e = codes & vec4(0x7fu);
if ((scale & 0x7fffu) >= INFINITY_F16 || any(e == vec4(0x7fu))) {
return vec4(value_e4m3(codes.x, scale), value_e4m3(codes.y, scale), value_e4m3(codes.z, scale), value_e4m3(codes.w, scale));
}
let sign = ((codes & vec4(0x80u)) << vec4(24u)) ^ vec4((scale & 0x8000u) << 16u);
let least = vec4<f32>(e) * 0.001953125;
let value = select(bitcast<vec4<f32>>((e + vec4(960u)) << vec4(20u)), least, e < vec4(8u));
return sign | bitcast<vec4<u32>>(value * bitcast<f32>(widen_f16(scale & 0x7fffu)));
}
fn values_integer(word: u32, shift: u32, scale: u32) -> vec4<u32> {
let codes = vec4(word, word >> 8u, word >> 16u, word >> 24u) & vec4(0xffu);
if ((scale & 0x7fffu) >= INFINITY_F16 || (shift & 0x7fffu) >= INFINITY_F16) {
return vec4(
value_integer(codes.x, shift, scale),
value_integer(codes.y, shift, scale),
value_integer(codes.z, shift, scale),
value_integer(codes.w, shift, scale),
);
}
return bitcast<vec4<u32>>(
vec4<f32>(codes) * bitcast<f32>(widen_f16(scale)) + vec4(bitcast<f32>(widen_f16(shift))),
);
}
//!subgroups
var<workgroup> least: array<atomic<u32>, 256>;
var<workgroup> most: array<atomic<u32>, 256>;
const GIVEN = 0xffffffffu;
fn extremes_of(local: u32, lane: u32, live: bool, index: u32, rounds: u32, low: u32, high: u32) -> vec2<u32> {
let lanes = subgroupBallot(true);
var leader = select(GIVEN, local - index, live);
var inverse = ~low;
var largest = high;
for (var round = 0u; round < min(rounds, 7u); round++) {
let step = 1u << round;
let other = lane ^ step;
let their_leader = subgroupShuffleXor(leader, step);
let their_inverse = subgroupShuffleXor(inverse, step);
let their_largest = subgroupShuffleXor(largest, step);
let there = ((lanes[(other >> 5u) & 3u] >> (other & 31u)) & 1u) == 1u;
if (there && their_leader == leader) {
inverse = max(inverse, their_inverse);
largest = max(largest, their_largest);
leader = select(leader, GIVEN, lane > other);
}
}
if (leader != GIVEN) {
atomicMax(&least[leader], inverse);
atomicMax(&most[leader], largest);
}
workgroupBarrier();
return vec2(~atomicLoad(&least[local]), atomicLoad(&most[local]));
}
fn say(leader: u32, word: u32) {
atomicStore(&least[leader], word);
}
fn heard(leader: u32) -> u32 {
return atomicLoad(&least[leader]);
}
//!else
var<workgroup> least: array<u32, 256>;
var<workgroup> most: array<u32, 256>;
fn extremes_of(local: u32, live: bool, index: u32, slots: u32, rounds: u32, own_low: u32, own_high: u32) -> vec2<u32> {
var low = own_low;
var high = own_high;
least[local] = low;
most[local] = high;
for (var round = 0u; round < rounds; round++) {
let step = 1u << round;
workgroupBarrier();
if (live && (index & (2u * step - 1u)) == 0u && index + step < slots) {
low = min(low, least[local + step]);
high = max(high, most[local + step]);
least[local] = low;
most[local] = high;
}
}
return vec2(low, high);
}
fn say(leader: u32, word: u32) {
least[leader] = word;
}
fn heard(leader: u32) -> u32 {
return least[leader];
}
//!end
struct Sizes {
coefficients: u32,
symbols: u32,
parameters: u32,
stride: u32,
tokens: u32,
components: u32,
groups: u32,
segments: u32,
widest: u32,
rounds: u32,
none0: u32,
none1: u32,
}
@group(0) @binding(0) var<storage, read> coefficients: array<u32>;
@group(0) @binding(1) var<storage, read> slots: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> segments: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> new_parameters: array<u32>;
@group(0) @binding(4) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> lookup: array<u32>;
@group(0) @binding(2) var<storage, read> parameters: array<u32>;
@group(0) @binding(3) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(4) var<storage, read> seam_segments: array<vec4<u32>>;
@group(0) @binding(5) var<uniform> seam_sizes: Sizes;
fn key(bits: u32) -> u32 {
return bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u);
}
fn unkey(k: u32) -> u32 {
return k ^ select(0xffffffffu, 0x80000000u, k >= 0x80000000u);
}
@compute @workgroup_size(256)
fn parameters_of(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
//!subgroups
@builtin(subgroup_invocation_id) lane: u32,
//!end
) {
let id = group.y * groups.x + group.x;
let segment = segments[id % sizes.segments];
let row = local / sizes.widest;
let number = local % sizes.widest;
let rows = 256u / sizes.widest;
let token = id / sizes.segments * rows + row;
let live = row < rows && number < segment.y && token < sizes.tokens;
var low = 0xffffffffu;
var high = 0u;
var slot = vec4<u32>(0u);
if (live) {
slot = slots[segment.x + number];
let at = sizes.coefficients + token * sizes.stride + slot.x;
let count = slot.y & 0x3fffffffu;
for (var i = 0u; i < count; i++) {
let bits = coefficients[at + i];
let k = select(key(bits), bits & 0x7fffffffu, (slot.y >> 30u) == 3u);
low = min(low, k);
high = max(high, k);
}
}
let index = slot.z & 0xffffu;
//!subgroups
let extremes = extremes_of(local, lane, live, index, sizes.rounds, low, high);
//!else
let extremes = extremes_of(local, live, index, slot.z >> 16u, sizes.rounds, low, high);
//!end
low = extremes.x;
high = extremes.y;
if (live && index == 0u) {
var words = 0u;
if ((slot.y >> 30u) == 3u) {
words = scale_of(bitcast<f32>(high), 448.0) << 16u;
} else {
let bottom = unkey(low);
let shift = select(narrow_f16(bottom), 0u, bottom == 0x80000000u);
let range = bitcast<f32>(unkey(high)) - bitcast<f32>(bottom);
words = shift | (scale_of(abs(range), select(15.0, 3.0, (slot.y >> 30u) == 1u)) << 16u);
}
new_parameters[sizes.parameters + token * sizes.groups + slot.w] = words;
}
}
fn code(size: Sizes, token: u32, component: u32) -> u32 {
let entry = lookup[component];
if (entry == 0u) {
return 0u;
}
let x = bitcast<f32>(coefficients[size.coefficients + token * size.stride + component]);
let words = parameters[size.parameters + token * size.groups + (entry & 0x3fffffffu)];
let scale = words >> 16u;
if ((entry >> 30u) == 3u) {
return code_e4m3(x, scale);
}
return code_integer(x, words & 0xffffu, scale, select(15u, 3u, (entry >> 30u) == 1u));
}
fn write_word(size: Sizes, first: u32) {
let all = size.tokens * size.components;
let word = (size.symbols + first) / 4u;
var token = first / size.components;
var component = first % size.components;
var bits = 0u;
for (var i = 0u; i < 4u; i++) {
if (first + i < all) {
bits |= code(size, token, component) << (8u * i);
} else {
bits |= symbols[word] & (0xffu << (8u * i));
}
component++;
if (component == size.components) {
component = 0u;
token++;
}
}
symbols[word] = bits;
}
@compute @workgroup_size(256)
fn codes_of(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let first = 4u * ((group.y * groups.x + group.x) * 256u + local);
if (first < sizes.tokens * sizes.components) {
write_word(sizes, first);
}
}
@compute @workgroup_size(64)
fn seams(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 64u + local;
let last = seam_sizes.tokens * seam_sizes.segments;
if (id > last) {
return;
}
var begin = 0u;
if (id > 0u) {
let before = id - 1u;
begin = before / seam_sizes.segments * seam_sizes.components + seam_segments[before % seam_sizes.segments].w;
}
var end = seam_sizes.tokens * seam_sizes.components;
if (id < last) {
end = id / seam_sizes.segments * seam_sizes.components + seam_segments[id % seam_sizes.segments].z;
}
for (var first = begin / 4u * 4u; first < end; first += 4u) {
write_word(seam_sizes, first);
}
}`,
};
