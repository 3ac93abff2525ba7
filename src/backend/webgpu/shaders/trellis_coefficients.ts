// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_coefficients.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_coefficients.wgsl. */
export const trellisCoefficients: Shader = {
  name: "trellis_coefficients",
  text: `struct Coefficients {
chunks: u32,
components: u32,
tokens: u32,
stride: u32,
row_stride: u32,
begin: u32,
gain: f32,
none: u32,
}
@group(0) @binding(0) var<storage, read> first: array<f32>;
@group(0) @binding(1) var<storage, read> second: array<f32>;
@group(0) @binding(2) var<storage, read_write> found: array<vec4<u32>>;
@group(0) @binding(3) var<uniform> args: Coefficients;
@group(0) @binding(0) var<storage, read> of_tokens: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> largest: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> largest_args: Coefficients;
@group(0) @binding(2) var<storage, read> factors: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> rows: array<i32>;
@group(0) @binding(4) var<uniform> row_args: Coefficients;
const INFINITY = 0x7f800000u;
var<workgroup> tile: array<u32, 2112>;
//!subgroups
var<workgroup> most: array<atomic<u32>, 4>;
//!else
var<workgroup> all: array<vec4<u32>, 64>;
//!end
fn coefficient_bits(i: u32, gain: f32) -> u32 {
let a = first[i];
let b = second[i];
let sum = bitcast<u32>(gain * a + gain * b);
let most = max(bitcast<u32>(a) & 0x7fffffffu, bitcast<u32>(b) & 0x7fffffffu);
return select(sum, most, most >= INFINITY);
}
fn plus(sum: vec2<u32>, bits: u32) -> vec2<u32> {
let low = bits << 29u;
let other = vec2(low, (bits >> 3u) + (896u << 20u));
if (sum.y == 0u) {
return other;
}
let swapped = other.y > sum.y || (other.y == sum.y && other.x > sum.x);
let big = select(sum, other, swapped);
let small = select(other, sum, swapped);
var exponent = big.y >> 20u;
let shift = exponent - (small.y >> 20u);
var x = vec3(0u, big.x, (big.y & 0xfffffu) | 0x100000u);
var y = vec3(0u, small.x, (small.y & 0xfffffu) | 0x100000u);
if (shift >= 64u) {
y = vec3(1u, 0u, 0u);
} else {
if (shift >= 32u) {
y = vec3(y.y, y.z, 0u);
}
let rest = shift & 31u;
if (rest > 0u) {
let lost = u32(y.x << (32u - rest) != 0u);
y = vec3((y.x >> rest) | (y.y << (32u - rest)) | lost, (y.y >> rest) | (y.z << (32u - rest)), y.z >> rest);
}
}
x.x = y.x;
x.y += y.y;
x.z += y.z + u32(x.y < y.y);
if (x.z >= 0x200000u) {
x = vec3((x.x >> 1u) | (x.y << 31u) | (x.x & 1u), (x.y >> 1u) | (x.z << 31u), x.z >> 1u);
exponent++;
}
let up = u32(x.x > 0x80000000u || (x.x == 0x80000000u && (x.y & 1u) == 1u));
x.y += up;
x.z += u32(x.y < up);
return vec2(x.y, (exponent << 20u) + (x.z - 0x100000u));
}
@compute @workgroup_size(64)
fn magnitudes(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
let chunk = group.y;
let t0 = group.x * 64u;
var greatest = 0u;
var sum = vec2(0u);
for (var c0 = 0u; c0 < args.components; c0 += 32u) {
for (var r = local >> 5u; r < 64u; r += 2u) {
var bits = 0u;
if (t0 + r < args.tokens && c0 + (local & 31u) < args.components) {
let at = (chunk * args.tokens + t0 + r) * args.stride + c0 + (local & 31u);
bits = coefficient_bits(at, args.gain) & 0x7fffffffu;
}
tile[r * 33u + (local & 31u)] = bits;
}
workgroupBarrier();
for (var c = 0u; c < min(32u, args.components - c0); c++) {
let bits = tile[local * 33u + c];
greatest = max(greatest, bits);
if (bits >= 0x800000u && bits < INFINITY) {
sum = plus(sum, bits);
}
}
workgroupBarrier();
}
if (t0 + local < args.tokens) {
found[chunk * args.tokens + t0 + local] = vec4(greatest, 0u, sum);
}
}
fn larger(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
let more = b.w > a.w || (b.w == a.w && b.z > a.z);
return vec4(max(a.x, b.x), 0u, select(a.zw, b.zw, more));
}
@compute @workgroup_size(64)
fn largest_of(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
let chunk = group.x;
var own = vec4(0u);
for (var t = local; t < largest_args.tokens; t += 64u) {
own = larger(own, of_tokens[chunk * largest_args.tokens + t]);
}
//!subgroups
let magnitude = subgroupMax(own.x);
let high = subgroupMax(own.w);
let low = subgroupMax(select(0u, own.z, own.w == high));
let chosen = subgroupElect();
if (chosen) {
atomicMax(&most[0], magnitude);
atomicMax(&most[3], high);
}
workgroupBarrier();
if (chosen && high == atomicLoad(&most[3])) {
atomicMax(&most[2], low);
}
workgroupBarrier();
//!else
all[local] = own;
for (var step = 32u; step > 0u; step >>= 1u) {
workgroupBarrier();
if (local < step) {
all[local] = larger(all[local], all[local + step]);
}
}
//!end
if (local == 0u) {
//!subgroups
let found_most = vec4(atomicLoad(&most[0]), 0u, atomicLoad(&most[2]), atomicLoad(&most[3]));
//!else
let found_most = all[0];
//!end
let bits = found_most.x;
var wide = vec2(bits << 29u, (bits >> 3u) + (896u << 20u));
if (bits >= INFINITY) {
wide = vec2(0u, select(0x7ff00000u, 0x7ff80000u, bits > INFINITY));
} else if (bits < 0x800000u) {
wide = vec2(0u);
}
largest[chunk] = vec4(wide, found_most.zw);
}
}
fn wide_product(a: u32, b: u32) -> vec2<u32> {
let low = (a & 0xffffu) * (b & 0xffffu);
let cross = vec2((a & 0xffffu) * (b >> 16u), (a >> 16u) * (b & 0xffffu));
let middle = (low >> 16u) + (cross.x & 0xffffu) + (cross.y & 0xffffu);
let high = (a >> 16u) * (b >> 16u) + (cross.x >> 16u) + (cross.y >> 16u) + (middle >> 16u);
return vec2((low & 0xffffu) | (middle << 16u), high);
}
fn rounded_product(bits: u32, factor: vec2<u32>) -> i32 {
let exponent = (bits >> 23u) & 255u;
let places = 1225u - exponent - ((factor.y >> 20u) & 2047u);
if (exponent == 0u || factor.y == 0u || places >= 78u) {
return 0;
}
let significand = (bits & 0x7fffffu) | 0x800000u;
let low = wide_product(significand, factor.x);
let high = wide_product(significand, (factor.y & 0xfffffu) | 0x100000u);
var p = vec3(low.x, low.y + high.x, high.y);
p.z += u32(p.y < low.y);
let unit = 23u + (p.z >> 12u);
let up = (1u << (unit - 1u)) - 1u + ((p.x >> unit) & 1u);
p.x += up;
if (p.x < up) {
p.y += 1u;
p.z += u32(p.y == 0u);
}
p.x &= ~((1u << unit) - 1u);
let half = places - 33u;
var n: u32;
var more: bool;
var bit: u32;
if (half >= 32u) {
bit = p.z >> (half - 32u);
more = (p.z & ((1u << (half - 32u)) - 1u)) != 0u || (p.x | p.y) != 0u;
n = bit >> 1u;
} else {
bit = p.y >> half;
more = (p.y & ((1u << half) - 1u)) != 0u || p.x != 0u;
n = (bit >> 1u) | (p.z << (31u - half));
}
if ((bit & 1u) == 1u && (more || (n & 1u) == 1u)) {
n++;
}
return select(i32(n), -i32(n), bits >> 31u == 1u);
}
@compute @workgroup_size(64)
fn substeps(
@builtin(workgroup_id) group: vec3<u32>,
@builtin(num_workgroups) groups: vec3<u32>,
@builtin(local_invocation_index) local: u32,
) {
let i = (group.y * groups.x + group.x) * 64u + local;
let token = i / row_args.row_stride;
let chunk = token / row_args.tokens;
if (chunk >= row_args.chunks) {
return;
}
let c = i - token * row_args.row_stride;
var value = 0;
if (c < row_args.components) {
let bits = coefficient_bits(token * row_args.stride + c, row_args.gain);
value = rounded_product(bits, factors[chunk]);
}
rows[i + (chunk + 1u) * row_args.begin * row_args.row_stride] = value;
}`,
};
