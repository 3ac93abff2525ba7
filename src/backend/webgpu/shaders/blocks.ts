// Made by `deno run -A tools/build_wgsl.ts` from wgsl/blocks.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/blocks.wgsl. */
export const blocks: Shader = {
  name: "blocks",
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
struct Sizes {
blocks: u32,
zero: u32,
}
@group(0) @binding(0) var<storage, read> values: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> packed: array<u32>;
@group(0) @binding(2) var<uniform> sizes: Sizes;
@group(0) @binding(0) var<storage, read> coded: array<u32>;
@group(0) @binding(1) var<storage, read_write> restored: array<vec4<u32>>;
const INFINITY = 0x7f800000u;
struct Number {
fraction: u32,
exponent: i32,
}
fn number_of(bits: u32) -> Number {
let fraction = bits & 0x7fffffu;
if (bits < 0x800000u) {
let shift = countLeadingZeros(fraction) - 8u;
return Number(fraction << shift, -149 - i32(shift));
}
return Number(fraction | 0x800000u, i32(bits >> 23u) - 150);
}
fn nearest(q: u32, exponent: i32, rest: bool) -> u32 {
let top = 31 - i32(countLeadingZeros(q));
let least = max(top + exponent, -126);
let shift = u32(min(least - 23 - exponent, 27));
var kept = q >> shift;
if (shift > 0u) {
let low = q & ((1u << shift) - 1u);
let half = 1u << (shift - 1u);
kept += select(0u, 1u, low > half || (low == half && (rest || (kept & 1u) == 1u)));
}
return min((u32(least + 126) << 23u) + kept, INFINITY);
}
fn scale_q8(largest: u32) -> u32 {
if (largest == 0u) {
return 0u;
}
let x = number_of(largest);
let q = (x.fraction << 8u) / 127u;
return nearest(q, x.exponent - 8, q * 127u != x.fraction << 8u);
}
fn scale_q4(extreme: u32) -> u32 {
if (extreme == 0u) {
return 0u;
}
let x = number_of(extreme);
return nearest(x.fraction, x.exponent - 3, false);
}
struct Factor {
inverse: f32,
lifted: bool,
infinite: bool,
}
fn factor_of(scale: u32, largest: u32) -> Factor {
if (scale == 0u) {
return Factor(0.0, false, false);
}
let x = number_of(scale);
var q = 0x1000000u / x.fraction;
var rest = 0x1000000u - q * x.fraction;
for (var i = 0u; i < 3u; i++) {
let digit = (rest << 8u) / x.fraction;
rest = (rest << 8u) - digit * x.fraction;
q = (q << 8u) | digit;
}
let exponent = -48 - x.exponent;
if (nearest(q, exponent, rest != 0u) == INFINITY) {
return Factor(0.0, false, true);
}
let lifted = largest < 0x20000000u;
return Factor(bitcast<f32>(nearest(q, exponent - select(0, 64, lifted), rest != 0u)), lifted, false);
}
fn lift(bits: u32) -> f32 {
let magnitude = bits & 0x7fffffffu;
var lifted = magnitude + 0x20000000u;
if (magnitude < 0x800000u) {
lifted = bitcast<u32>(f32(magnitude) * 2.5849394142282115e-26);
}
return bitcast<f32>(lifted | (bits & 0x80000000u));
}
fn product(bits: u32, factor: Factor) -> f32 {
var x = bitcast<f32>(bits);
if (factor.lifted) {
x = lift(bits);
}
return bitcast<f32>(bitcast<u32>(x * factor.inverse) ^ sizes.zero);
}
fn code_q8(bits: u32, factor: Factor) -> u32 {
if (factor.infinite) {
return 0u;
}
let x = product(bits, factor);
let whole = trunc(x);
let away = select(0, select(1, -1, x < 0.0), abs(x - whole) >= 0.5);
return u32(i32(whole) + away) & 0xffu;
}
fn code_q4(bits: u32, factor: Factor, negative: bool) -> u32 {
if (factor.infinite) {
let zero = (bits & 0x7fffffffu) == 0u;
return select(0u, 15u, !zero && (bits >> 31u == 1u) == negative);
}
let x = select(product(bits, factor), -product(bits, factor), negative);
return min(15u, u32(x + 8.5));
}
fn code_pair_q8(pair: vec2<u32>, factor: Factor) -> u32 {
return code_q8(pair.x, factor) | (code_q8(pair.y, factor) << 8u);
}
@compute @workgroup_size(64)
fn quantize_q8(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let first = ((group.y * groups.x + group.x) * 64u + local) * 2u;
if (first >= sizes.blocks) {
return;
}
let end = min(first + 2u, sizes.blocks);
var word = first / 2u * 17u;
var waiting = 0u;
for (var block = first; block < end; block++) {
var most = vec2(0u);
for (var i = 0u; i < 16u; i++) {
most = max(most, values[block * 16u + i] & vec2(0x7fffffffu));
}
let largest = max(most.x, most.y);
let scale = scale_q8(largest);
let factor = factor_of(scale, largest);
let odd = block & 1u;
if (odd == 0u) {
waiting = narrow_f16(scale);
} else {
packed[word] = waiting | (narrow_f16(scale) << 16u);
word++;
}
for (var i = 0u; i < 16u; i++) {
let codes = code_pair_q8(values[block * 16u + i], factor);
if ((i & 1u) == odd) {
packed[word] = waiting | (codes << 16u);
word++;
} else {
waiting = codes;
}
}
}
if (end < first + 2u) {
packed[word] = waiting;
}
}
@compute @workgroup_size(64)
fn quantize_q4(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let first = ((group.y * groups.x + group.x) * 64u + local) * 2u;
if (first >= sizes.blocks) {
return;
}
let end = min(first + 2u, sizes.blocks);
var word = first / 2u * 9u;
var waiting = 0u;
for (var block = first; block < end; block++) {
var extreme = 0u;
for (var i = 0u; i < 16u; i++) {
let pair = values[block * 16u + i];
extreme = select(extreme, pair.x, (pair.x & 0x7fffffffu) > (extreme & 0x7fffffffu));
extreme = select(extreme, pair.y, (pair.y & 0x7fffffffu) > (extreme & 0x7fffffffu));
}
let largest = extreme & 0x7fffffffu;
let scale = scale_q4(largest);
let factor = factor_of(scale, largest);
let negative = extreme >> 31u == 0u;
let half = narrow_f16(scale) | select(0u, 0x8000u, negative);
let odd = block & 1u;
if (odd == 0u) {
waiting = half;
} else {
packed[word] = waiting | (half << 16u);
word++;
}
for (var i = 0u; i < 8u; i++) {
let low = values[block * 16u + i];
let high = values[block * 16u + 8u + i];
let codes = code_q4(low.x, factor, negative) | (code_q4(high.x, factor, negative) << 4u) |
(code_q4(low.y, factor, negative) << 8u) | (code_q4(high.y, factor, negative) << 12u);
if ((i & 1u) == odd) {
packed[word] = waiting | (codes << 16u);
word++;
} else {
waiting = codes;
}
}
}
if (end < first + 2u) {
packed[word] = waiting;
}
}
fn half_at(index: u32) -> u32 {
return (coded[index / 2u] >> (index % 2u * 16u)) & 0xffffu;
}
fn restore(codes: vec4<i32>, scale: u32) -> vec4<u32> {
let magnitude = bitcast<f32>(widen_f16(scale & 0x7fffu));
let sign = vec4((scale & 0x8000u) << 16u) ^ select(vec4(0u), vec4(0x80000000u), codes < vec4(0));
return bitcast<vec4<u32>>(vec4<f32>(abs(codes)) * magnitude) | sign;
}
@compute @workgroup_size(256)
fn dequantize_q8(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 256u + local;
if (id >= 8u * sizes.blocks) {
return;
}
let begin = id / 8u * 17u;
let at = begin + 1u + id % 8u * 2u;
let low = half_at(at);
let high = half_at(at + 1u);
let bytes = vec4(low, low >> 8u, high, high >> 8u) << vec4(24u);
restored[id] = restore(bitcast<vec4<i32>>(bytes) >> vec4(24u), half_at(begin));
}
@compute @workgroup_size(256)
fn dequantize_q4(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 256u + local;
if (id >= 8u * sizes.blocks) {
return;
}
let begin = id / 8u * 9u;
let at = begin + 1u + id % 4u * 2u;
let low = half_at(at);
let high = half_at(at + 1u);
let bytes = vec4(low, low >> 8u, high, high >> 8u) >> vec4(id % 8u / 4u * 4u);
restored[id] = restore(vec4<i32>(bytes & vec4(15u)) - vec4(8), half_at(begin));
}`,
};
