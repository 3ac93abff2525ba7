// Made by `deno run -A tools/build_wgsl.ts` from wgsl/code_streams.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/code_streams.wgsl. */
export const codeStreams: Shader = {
  name: "code_streams",
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
coefficients: u32,
across: u32,
token_begin: u32,
token_end: u32,
tokens: u32,
components: u32,
groups: u32,
packed: u32,
chunks: u32,
int2_begin: u32,
int4_begin: u32,
fp8_begin: u32,
low_begin: u32,
high_begin: u32,
int2_bytes: u32,
int4_bytes: u32,
fp8_bytes: u32,
none0: u32,
none1: u32,
none2: u32,
}
@group(0) @binding(0) var<storage, read> int2: array<u32>;
@group(0) @binding(1) var<storage, read> int4: array<u32>;
@group(0) @binding(2) var<storage, read> fp8: array<u32>;
@group(0) @binding(3) var<storage, read> low: array<u32>;
@group(0) @binding(4) var<storage, read> high: array<u32>;
@group(0) @binding(5) var<storage, read> places: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> coefficients: array<vec4<u32>>;
@group(0) @binding(7) var<uniform> sizes: Sizes;
const TOKENS = 64u;
const COMPONENTS = 64u;
const ROW = 17u;
var<workgroup> codes: array<u32, 1088>;
fn word(kind: u32, at: u32) -> u32 {
if (kind == 1u) {
return int2[at];
}
if (kind == 2u) {
return int4[at];
}
return fp8[at];
}
fn joined(first: u32, second: u32, at: u32) -> u32 {
let shift = 8u * (at & 3u);
return (first >> shift) | select(second << ((32u - shift) & 31u), 0u, shift == 0u);
}
fn bytes_at(kind: u32, at: u32) -> u32 {
return joined(word(kind, at / 4u), word(kind, at / 4u + 1u), at);
}
fn spread4(found: u32) -> u32 {
return (found & 0xfu) | ((found & 0xf0u) << 4u) | ((found & 0xf00u) << 8u) | ((found & 0xf000u) << 12u);
}
fn spread2(found: u32) -> u32 {
return (found & 3u) | ((found & 0xcu) << 6u) | ((found & 0x30u) << 12u) | ((found & 0xc0u) << 18u);
}
fn put_codes(kind: u32, bits: u32, at: u32, to: u32) {
for (var i = 0u; i < bits / 2u; i++) {
let found = bytes_at(kind, at + 4u * i);
if (bits == 8u) {
codes[to + i] = found;
} else if (bits == 4u) {
codes[to + 2u * i] = spread4(found);
codes[to + 2u * i + 1u] = spread4(found >> 16u);
} else {
codes[to] = spread2(found);
codes[to + 1u] = spread2(found >> 8u);
codes[to + 2u] = spread2(found >> 16u);
codes[to + 3u] = spread2(found >> 24u);
}
}
}
fn transposed(w: vec4<u32>) -> vec4<u32> {
let even = vec2(w.x & 0xff00ffu, w.z & 0xff00ffu) | (vec2(w.y & 0xff00ffu, w.w & 0xff00ffu) << vec2(8u));
let odd = (vec2(w.x & 0xff00ff00u, w.z & 0xff00ff00u) >> vec2(8u)) | vec2(w.y & 0xff00ff00u, w.w & 0xff00ff00u);
return vec4(
(even.x & 0xffffu) | (even.y << 16u),
(odd.x & 0xffffu) | (odd.y << 16u),
(even.x >> 16u) | (even.y & 0xffff0000u),
(odd.x >> 16u) | (odd.y & 0xffff0000u),
);
}
fn begin_of(kind: u32, chunk: u32) -> u32 {
if (kind == 1u) {
return sizes.int2_begin + chunk * sizes.int2_bytes;
}
if (kind == 2u) {
return sizes.int4_begin + chunk * sizes.int4_bytes;
}
return sizes.fp8_begin + chunk * sizes.fp8_bytes;
}
fn parameters(chunk: u32, group: u32, token: u32) -> vec4<u32> {
let shift = (2u * chunk * sizes.groups + group) * sizes.tokens + token;
let scale = shift + sizes.groups * sizes.tokens;
return transposed(vec4(low_bytes(shift), high_bytes(shift), low_bytes(scale), high_bytes(scale)));
}
fn low_bytes(i: u32) -> u32 {
let at = sizes.low_begin + i;
return joined(low[at / 4u], low[at / 4u + 1u], at);
}
fn high_bytes(i: u32) -> u32 {
let at = sizes.high_begin + i;
return joined(high[at / 4u], high[at / 4u + 1u], at);
}
fn entry_of(component: u32) -> u32 {
if (component >= sizes.components) {
return 0u;
}
return places[component].x;
}
fn value(entry: u32, pair: u32, code: u32) -> u32 {
if (entry == 0u) {
return 0u;
}
if ((entry >> 30u) == 3u) {
return value_e4m3(code, pair >> 16u);
}
return value_integer(code, pair & 0xffffu, pair >> 16u);
}
fn values(entry: u32, pair: u32, four: u32) -> vec4<u32> {
if (entry == 0u) {
return vec4<u32>(0u);
}
if ((entry >> 30u) == 3u) {
return values_e4m3(four, pair >> 16u);
}
return values_integer(four, pair & 0xffffu, pair >> 16u);
}
@compute @workgroup_size(256)
fn restore(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let tiles = (4u * sizes.across + COMPONENTS - 1u) / COMPONENTS;
let own_tokens = sizes.token_end - sizes.token_begin;
let rows = (own_tokens + TOKENS - 1u) / TOKENS;
let id = group.y * groups.x + group.x;
let chunk = id / tiles / rows;
let token0 = sizes.token_begin + id / tiles % rows * TOKENS;
let component0 = id % tiles * COMPONENTS;
let live = chunk < sizes.chunks;
let component = component0 + local / 4u;
let first = token0 + 16u * (local % 4u);
let entry = entry_of(component);
if (live && entry != 0u && first < sizes.token_end) {
let kind = entry >> 30u;
let bits = select(8u, 1u << kind, sizes.packed == 1u);
let row_bytes = (sizes.tokens * bits + 7u) / 8u;
let at = begin_of(kind, chunk) + places[component].y * row_bytes + first * bits / 8u;
put_codes(kind, bits, at, local / 4u * ROW + 4u * (local % 4u));
}
workgroupBarrier();
let quad = local % 16u;
let c = component0 + 4u * quad;
let token = token0 + local / 16u * 4u;
if (!live || token >= sizes.token_end || c >= 4u * sizes.across) {
return;
}
let at = 4u * quad * ROW + local / 16u;
let by_token = transposed(vec4(codes[at], codes[at + ROW], codes[at + 2u * ROW], codes[at + 3u * ROW]));
let e = vec4(entry_of(c), entry_of(c + 1u), entry_of(c + 2u), entry_of(c + 3u));
let one_group = all(e == e.xxxx);
let first_pair = parameters(chunk, e.x & 0x3fffffffu, token);
var pairs = array<vec4<u32>, 4>(first_pair, first_pair, first_pair, first_pair);
if (!one_group) {
pairs[1] = parameters(chunk, e.y & 0x3fffffffu, token);
pairs[2] = parameters(chunk, e.z & 0x3fffffffu, token);
pairs[3] = parameters(chunk, e.w & 0x3fffffffu, token);
}
for (var j = 0u; j < min(4u, sizes.token_end - token); j++) {
let four = by_token[j];
var result: vec4<u32>;
if (one_group) {
result = values(e.x, first_pair[j], four);
} else {
result = vec4(
value(e.x, pairs[0][j], four & 0xffu),
value(e.y, pairs[1][j], (four >> 8u) & 0xffu),
value(e.z, pairs[2][j], (four >> 16u) & 0xffu),
value(e.w, pairs[3][j], four >> 24u),
);
}
let row = chunk * own_tokens + token - sizes.token_begin + j;
coefficients[sizes.coefficients + row * sizes.across + c / 4u] = result;
}
}`,
};
