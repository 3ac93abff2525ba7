// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_predict.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_predict.wgsl. */
export const trellisPredict: Shader = {
  name: "trellis_predict",
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
@group(0) @binding(0) var<storage, read> rho: array<u32>;
@group(0) @binding(1) var<storage, read> models: array<u32>;
@group(0) @binding(2) var<storage, read> words: array<u32>;
@group(0) @binding(3) var<storage, read_write> quarters: array<u32>;
@group(0) @binding(4) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(5) var<uniform> sizes: Sizes;
fn low(word: u32) -> i32 {
return bitcast<i32>(word << 16u) >> 16u;
}
fn high(word: u32) -> i32 {
return bitcast<i32>(word) >> 16u;
}
fn rho_at(i: u32) -> i32 {
return bitcast<i32>(rho[i >> 2u] << (24u - 8u * (i & 3u))) >> 24u;
}
@compute @workgroup_size(64)
fn predict(@builtin(global_invocation_id) id: vec3<u32>) {
let c = 2u * id.x;
let chunk = id.y;
if (c >= sizes.components) {
return;
}
let second = c + 1u < sizes.components;
var factors: array<vec2<i32>, 5>;
for (var mode = 0u; mode < MODES; mode++) {
let i = (models[chunk] * MODES + mode) * sizes.components + c;
factors[mode] = vec2(rho_at(i), 0);
if (second) {
factors[mode].y = rho_at(i + 1u);
}
}
var largest = 0;
var beyond = false;
for (var t = 0u; t < sizes.tokens; t++) {
let token = chunk * sizes.tokens + t;
let word = words[token];
let at = (token * sizes.stride + c) / 2u;
let residual = quarters[at];
var p = vec2(0);
let ref_token = word & 0xffffu;
if (ref_token < t) {
let other = quarters[((chunk * sizes.tokens + ref_token) * sizes.stride + c) / 2u];
let factor = factors[min(mode_of(word), MODES - 1u)];
p = (factor * vec2(low(other), high(other)) + vec2(16)) >> vec2(5u);
}
let value = p + 4 * vec2(low(residual), high(residual));
let joined = (bitcast<u32>(value.x) & 0xffffu) | (bitcast<u32>(value.y) << 16u);
let kept = vec2(low(joined), high(joined));
beyond = beyond || any(kept != value);
largest = max(largest, max(abs(kept.x), abs(kept.y)));
quarters[at] = joined;
}
atomicMax(&status[2u * chunk + 1u], u32(largest));
if (beyond) {
atomicMin(&status[2u * chunk], STATUS_TOO_LARGE);
}
}`,
};
