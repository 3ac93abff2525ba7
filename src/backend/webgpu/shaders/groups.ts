// Made by `deno run -A tools/build_wgsl.ts` from wgsl/groups.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/groups.wgsl. */
export const groups: Shader = {
  name: "groups",
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
struct Sizes {
count: u32,
length: u32,
inner: u32,
group: u32,
levels: u32,
factor: u32,
zero: u32,
none: u32,
}
@group(0) @binding(0) var<storage, read_write> rows: array<f32>;
@group(0) @binding(1) var<uniform> row_sizes: Sizes;
@group(0) @binding(0) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> new_codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> new_params: array<u32>;
@group(0) @binding(3) var<uniform> sizes: Sizes;
@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<u32>;
@group(0) @binding(2) var<storage, read_write> restored: array<vec4<u32>>;
var<workgroup> tile: array<f32, 2048>;
@compute @workgroup_size(256)
fn rotate(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let first = (group.y * groups.x + group.x) * 2048u;
for (var i = local; i < 2048u; i += 256u) {
var x = 0.0;
if (first + i < row_sizes.count) {
x = rows[first + i];
}
tile[i] = x;
}
for (var half = 1u; half < row_sizes.length; half *= 2u) {
workgroupBarrier();
for (var pair = local; pair < 1024u; pair += 256u) {
let at = (pair & ~(half - 1u)) * 2u + (pair & (half - 1u));
let a = tile[at];
let b = tile[at + half];
tile[at] = bitcast<f32>(bitcast<u32>(a + b) ^ row_sizes.zero);
tile[at + half] = bitcast<f32>(bitcast<u32>(a - b) ^ row_sizes.zero);
}
}
workgroupBarrier();
for (var i = local; i < 2048u; i += 256u) {
if (first + i < row_sizes.count) {
rows[first + i] = tile[i] * bitcast<f32>(row_sizes.factor);
}
}
}
fn parameters_of(low: f32, high: f32) -> u32 {
let range = bitcast<f32>(widen_f16(narrow_f16(bitcast<u32>(abs(high - low)))));
let scale = scale_of(max(range, bitcast<f32>(sizes.factor)), f32(sizes.levels));
let bits = bitcast<u32>(low);
return scale | (select(narrow_f16(bits), 0u, (bits & 0x7fffffffu) == 0u) << 16u);
}
fn word_of(x: vec4<f32>, p: vec4<u32>) -> u32 {
return code_integer(x.x, p.x >> 16u, p.x & 0xffffu, sizes.levels) |
(code_integer(x.y, p.y >> 16u, p.y & 0xffffu, sizes.levels) << 8u) |
(code_integer(x.z, p.z >> 16u, p.z & 0xffffu, sizes.levels) << 16u) |
(code_integer(x.w, p.w >> 16u, p.w & 0xffffu, sizes.levels) << 24u);
}
@compute @workgroup_size(64)
fn quantize_runs(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 64u + local;
if (id >= sizes.count) {
return;
}
let per_row = (sizes.length + sizes.group - 1u) / sizes.group;
let begin = id % per_row * sizes.group;
let at = (id / per_row * sizes.length + begin) / 4u;
let count = min(sizes.group, sizes.length - begin) / 4u;
var low = values[at];
var high = low;
var finite = true;
for (var i = 0u; i < count; i++) {
let x = values[at + i];
finite = finite && all((bitcast<vec4<u32>>(x) & vec4(0x7f800000u)) < vec4(0x7f800000u));
low = min(low, x);
high = max(high, x);
}
var words = 0x7e007e00u;
if (finite) {
words = parameters_of(min(min(low.x, low.y), min(low.z, low.w)), max(max(high.x, high.y), max(high.z, high.w)));
}
new_params[id] = words;
for (var i = 0u; i < count; i++) {
new_codes[at + i] = word_of(values[at + i], vec4(words));
}
}
@compute @workgroup_size(64)
fn quantize_columns(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 64u + local;
if (id >= sizes.count) {
return;
}
let width = sizes.inner / 4u;
let per_axis = (sizes.length + sizes.group - 1u) / sizes.group;
let row = id / width;
let begin = row % per_axis * sizes.group;
let at = (row / per_axis * sizes.length + begin) * width + id % width;
let count = min(sizes.group, sizes.length - begin);
var low = values[at];
var high = low;
for (var i = 1u; i < count; i++) {
let x = values[at + i * width];
low = min(low, x);
high = max(high, x);
}
let p = vec4(
parameters_of(low.x, high.x),
parameters_of(low.y, high.y),
parameters_of(low.z, high.z),
parameters_of(low.w, high.w),
);
new_params[4u * id] = p.x;
new_params[4u * id + 1u] = p.y;
new_params[4u * id + 2u] = p.z;
new_params[4u * id + 3u] = p.w;
for (var i = 0u; i < count; i++) {
new_codes[at + i * width] = word_of(values[at + i * width], p);
}
}
@compute @workgroup_size(256)
fn dequantize(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let id = (group.y * groups.x + group.x) * 256u + local;
if (id >= sizes.count) {
return;
}
let word = codes[id];
let row = 4u * id / sizes.inner;
let per_axis = (sizes.length + sizes.group - 1u) / sizes.group;
let p = (row / sizes.length * per_axis + row % sizes.length / sizes.group) * sizes.inner + 4u * id % sizes.inner;
if (sizes.inner == 1u) {
restored[id] = values_integer(word, params[p] >> 16u, params[p] & 0xffffu);
} else {
restored[id] = vec4(
value_integer(word & 0xffu, params[p] >> 16u, params[p] & 0xffffu),
value_integer((word >> 8u) & 0xffu, params[p + 1u] >> 16u, params[p + 1u] & 0xffffu),
value_integer((word >> 16u) & 0xffu, params[p + 2u] >> 16u, params[p + 2u] & 0xffffu),
value_integer(word >> 24u, params[p + 3u] >> 16u, params[p + 3u] & 0xffffu),
);
}
}`,
};
