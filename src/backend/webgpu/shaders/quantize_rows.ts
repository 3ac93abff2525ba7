// Made by `deno run -A tools/build_wgsl.ts` from wgsl/quantize_rows.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/quantize_rows.wgsl. */
export const quantizeRows: Shader = {
  name: "quantize_rows",
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
rows: u32,
words: u32,
}
override VECTORS: bool = false;
override WORDS: bool = false;
@group(0) @binding(0) var<storage, read> coefficients: array<u32>;
@group(0) @binding(1) var<storage, read> slots: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> segments: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> parameters: array<u32>;
@group(0) @binding(4) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(5) var<storage, read> coefficients4: array<vec4<u32>>;
@group(0) @binding(6) var<uniform> sizes: Sizes;
var<workgroup> staged: array<atomic<u32>, 768>;
fn keys(bits: vec4<u32>) -> vec4<u32> {
return bits ^ select(vec4(0x80000000u), vec4(0xffffffffu), bits >= vec4(0x80000000u));
}
fn unkey(k: u32) -> u32 {
return k ^ select(0xffffffffu, 0x80000000u, k >= 0x80000000u);
}
fn load(at: u32, count: u32) -> vec4<u32> {
if (VECTORS && (at & 3u) == 0u) {
return coefficients4[at / 4u];
}
var x = vec4<u32>(0u);
if (count > 0u) { x.x = coefficients[at]; }
if (count > 1u) { x.y = coefficients[at + 1u]; }
if (count > 2u) { x.z = coefficients[at + 2u]; }
if (count > 3u) { x.w = coefficients[at + 3u]; }
return x;
}
fn stage(first_word: u32, at: u32, codes: u32, count: u32) {
let word = first_word + at / 4u;
let shift = 8u * (at & 3u);
let bits = codes & select((1u << (8u * count)) - 1u, 0xffffffffu, count >= 4u);
atomicOr(&staged[word], bits << shift);
if (shift > 0u) {
atomicOr(&staged[word + 1u], bits >> (32u - shift));
}
}
fn codes_of(x: vec4<u32>, fp8: bool, step: Step, scale: u32) -> u32 {
let values = bitcast<vec4<f32>>(x);
if (!fp8) {
return codes_integer(values, step);
}
return code_e4m3(values.x, scale) | (code_e4m3(values.y, scale) << 8u) | (code_e4m3(values.z, scale) << 16u) |
(code_e4m3(values.w, scale) << 24u);
}
@compute @workgroup_size(256)
fn quantize(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
//!subgroups
@builtin(subgroup_invocation_id) lane: u32,
//!end
) {
let id = group.y * groups.x + group.x;
let segment = segments[id % sizes.segments];
let row0 = id / sizes.segments * sizes.rows;
let row = local / sizes.widest;
let number = local % sizes.widest;
let token = row0 + row;
let live = row < sizes.rows && number < segment.y && token < sizes.tokens;
var slot = vec4<u32>(0u);
if (live) {
slot = slots[segment.x + number];
}
let type_of = slot.y >> 30u;
let count = slot.y & 0x3fffffffu;
let fp8 = type_of == 3u;
var x = vec4<u32>(0u);
var y = vec4<u32>(0u);
if (live) {
let at = sizes.coefficients + token * sizes.stride + slot.x;
x = load(at, count);
if (count > 4u) {
y = load(at + 4u, count - 4u);
}
}
let inside = vec4<u32>(0u, 1u, 2u, 3u);
var p = select(vec4(x.x), x, inside < vec4(count));
var q = select(vec4(x.x), y, inside + vec4(4u) < vec4(count));
p = select(keys(p), p & vec4(0x7fffffffu), fp8);
q = select(keys(q), q & vec4(0x7fffffffu), fp8);
let a = min(p, q);
let b = max(p, q);
let own_low = min(min(a.x, a.y), min(a.z, a.w));
let own_high = max(max(b.x, b.y), max(b.z, b.w));
if (!WORDS) {
for (var i = local; i < sizes.rows * sizes.words; i += 256u) {
atomicStore(&staged[i], 0u);
}
}
let index = slot.z & 0xffffu;
//!subgroups
let extremes = extremes_of(local, lane, live, index, sizes.rounds, own_low, own_high);
//!else
let extremes = extremes_of(local, live, index, slot.z >> 16u, sizes.rounds, own_low, own_high);
//!end
let low = extremes.x;
let high = extremes.y;
if (live && index == 0u) {
var words = 0u;
if (fp8) {
words = scale_of(bitcast<f32>(high), 448.0) << 16u;
} else {
let bottom = unkey(low);
let shift = select(narrow_f16(bottom), 0u, bottom == 0x80000000u);
let range = bitcast<f32>(unkey(high)) - bitcast<f32>(bottom);
words = shift | (scale_of(abs(range), select(15.0, 3.0, type_of == 1u)) << 16u);
}
parameters[sizes.parameters + token * sizes.groups + slot.w] = words;
say(local, words);
}
workgroupBarrier();
if (live) {
let words = heard(local - index);
let scale = words >> 16u;
let step = step_of(words & 0xffffu, scale, select(15u, 3u, type_of == 1u));
let byte = sizes.symbols + token * sizes.components + slot.x;
let first = codes_of(x, fp8, step, scale);
if (WORDS) {
symbols[byte / 4u] = first;
if (count > 4u) {
symbols[byte / 4u + 1u] = codes_of(y, fp8, step, scale);
}
} else {
let word0 = (sizes.symbols + token * sizes.components + segment.z) / 4u;
stage(row * sizes.words, byte - 4u * word0, first, count);
if (count > 4u) {
stage(row * sizes.words, byte + 4u - 4u * word0, codes_of(y, fp8, step, scale), count - 4u);
}
}
}
if (!WORDS) {
workgroupBarrier();
for (var i = local; i < sizes.rows * sizes.words; i += 256u) {
let of_token = row0 + i / sizes.words;
let begin = sizes.symbols + of_token * sizes.components + segment.z;
let end = sizes.symbols + of_token * sizes.components + segment.w;
let word = begin / 4u + i % sizes.words;
if (of_token < sizes.tokens && 4u * word >= begin && 4u * word + 4u <= end) {
symbols[word] = atomicLoad(&staged[i]);
}
}
}
}`,
};
