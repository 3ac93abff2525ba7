// Made by `deno run -A tools/build_wgsl.ts` from wgsl/trellis_encode.wgsl. Do not edit.
import type { Shader } from "../pipelines.ts";

/** wgsl/trellis_encode.wgsl. */
export const trellisEncode: Shader = {
  name: "trellis_encode",
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
const ZERO_REACH = 1024;
fn reconstruct(level: i32, quantizer: u32) -> i32 {
return 2 * level - select(0, sign(level), quantizer == 1u);
}
fn lower_level(residual: i32, quantizer: u32) -> i32 {
if (quantizer == 0u) {
return residual >> 5u;
}
if (residual >= 16) {
return (residual + 16) >> 5u;
}
if (residual >= 0) {
return 0;
}
return select((residual - 16) >> 5u, -1, residual >= -16);
}
fn level_cost(table: u32, residual: i32, level: i32) -> i32 {
let error = residual - 16 * reconstruct(level, table & 1u);
return error * error + i32((sizes.weight * level_bits(table, level)) >> 8u);
}
fn even_level(table: u32, residual: i32) -> vec2<i32> {
let even = (lower_level(residual, table & 1u) + 1) & ~1;
let cost = level_cost(table, residual, even);
if (even != 0 && abs(residual) <= ZERO_REACH) {
let zero = level_cost(table, residual, 0);
if (zero < cost) {
return vec2(0, zero);
}
}
return vec2(even, cost);
}
fn odd_level(table: u32, residual: i32) -> i32 {
return lower_level(residual, table & 1u) | 1;
}
const STATES = 8u;
const UNREACHED = 0x38000000;
struct Costs {
low: vec4<i32>,
high: vec4<i32>,
}
var<workgroup> matrices: array<Costs, 320>;
struct Step {
costs: Costs,
low: vec4<bool>,
high: vec4<bool>,
}
fn first_predecessors(c: Costs) -> vec4<i32> {
return vec4(c.low.x, c.high.x, c.low.y, c.high.y);
}
fn second_predecessors(c: Costs) -> vec4<i32> {
return vec4(c.low.z, c.high.z, c.low.w, c.high.w);
}
fn advance(c: Costs, branch: vec4<i32>) -> Step {
let first = first_predecessors(c);
let second = second_predecessors(c);
let a = Costs(first + branch.xzyw, first + branch.ywxz);
let b = Costs(second + branch.ywxz, second + branch.xzyw);
return Step(Costs(min(a.low, b.low), min(a.high, b.high)), b.low < a.low, b.high < a.high);
}
fn through(c: Costs, matrix: u32) -> Costs {
var ends = Costs(vec4(0x7fffffff), vec4(0x7fffffff));
for (var i = 0u; i < STATES; i++) {
let row = matrices[matrix * STATES + i];
let cost = select(c.low[i & 3u], c.high[i & 3u], i >= 4u);
ends = Costs(min(ends.low, row.low + cost), min(ends.high, row.high + cost));
}
return ends;
}
fn beginning_in(state: u32) -> Costs {
let at = vec4(0u, 1u, 2u, 3u);
return Costs(
select(vec4(UNREACHED), vec4(0), at == vec4(state)),
select(vec4(UNREACHED), vec4(0), at + vec4(4u) == vec4(state)),
);
}
fn origin(state: u32, decision: u32) -> u32 {
return (select(0xeb63d850u, 0xfa72c941u, state >= 4u) >> (((state & 3u) << 3u) | (decision << 2u))) & 15u;
}
const SIMILAR_COMPONENTS = 64u;
const SIMILAR_TOKENS = 4u;
const PROXY_COMPONENTS = 256u;
const PROXY_BUCKETS = 160u;
const CANDIDATES = 6u;
const NONE = 0xffffffffu;
var<workgroup> leading: array<i32, 64>;
var<workgroup> keys: array<atomic<u32>, 5>;
var<workgroup> nearest: array<u32, 4>;
//!subgroups
var<workgroup> prices: array<atomic<u32>, 30>;
//!end
fn offer(i: u32, key: u32) {
//!subgroups
let least = subgroupMin(key);
if (subgroupElect() && least != NONE) {
atomicMin(&keys[i], least);
}
//!else
if (key != NONE) {
atomicMin(&keys[i], key);
}
//!end
}
fn bucket_of(magnitude: u32) -> u32 {
if (magnitude < 64u) {
return magnitude;
}
let top = firstLeadingBit(magnitude);
return min(PROXY_BUCKETS - 1u, 64u + 8u * (top - 6u) + ((magnitude >> (top - 3u)) & 7u));
}
fn find_similar(chunk: u32, t: u32, local: u32) {
let row = (chunk * sizes.tokens + t) * sizes.stride;
if (local < SIMILAR_COMPONENTS) {
leading[local] = 0;
if (local < sizes.components) {
leading[local] = rows[row + local];
}
}
if (local < 5u) {
atomicStore(&keys[local], NONE);
}
//!subgroups
if (local < CANDIDATES * MODES) {
atomicStore(&prices[local], 0u);
}
//!end
workgroupBarrier();
let each = (t + THREADS - 1u) / THREADS;
let pairs = min(SIMILAR_COMPONENTS, sizes.stride) / 2u;
var distances = vec4(NONE);
var tokens = vec4(0u);
for (var u = local * each; u < min(t, (local + 1u) * each); u++) {
let other = ((chunk * sizes.tokens + u) * sizes.stride) >> 1u;
var distance = 0u;
for (var i = 0u; i < pairs; i++) {
let apart = abs(vec2(leading[2u * i], leading[2u * i + 1u]) - 4 * halves(reconstruction[other + i]));
distance += u32(apart.x + apart.y);
}
let nearer = vec4(distance) < distances;
distances = select(distances, select(vec4(distance), vec4(distance, distances.xyz), vec4(false, nearer.xyz)), nearer);
tokens = select(tokens, select(vec4(u), vec4(u, tokens.xyz), vec4(false, nearer.xyz)), nearer);
}
for (var round = 0u; round < SIMILAR_TOKENS; round++) {
let key = select((distances.x << 8u) | local, NONE, distances.x == NONE);
offer(round, key);
workgroupBarrier();
if (key != NONE && atomicLoad(&keys[round]) == key) {
nearest[round] = tokens.x;
distances = vec4(distances.yzw, NONE);
tokens = vec4(tokens.yzw, 0u);
}
}
workgroupBarrier();
}
fn choose_prediction(chunk: u32, t: u32, local: u32) -> u32 {
find_similar(chunk, t, local);
let candidate = local >> 5u;
var reference = 0xffffu;
var present = candidate < CANDIDATES;
if (candidate == 1u) {
present = t > 0u;
reference = t - 1u;
} else if (present && candidate > 1u) {
present = atomicLoad(&keys[candidate - 2u]) != NONE;
reference = nearest[candidate - 2u];
}
let own = chunk * sizes.tokens;
let lane = local & 31u;
var sums = array<u32, 5>(0u, 0u, 0u, 0u, 0u);
if (present) {
for (var c = lane; c < min(PROXY_COMPONENTS, sizes.components); c += 32u) {
let value = rows[(own + t) * sizes.stride + c];
var other = 0;
if (reference < t) {
other = halves(reconstruction[((own + reference) * sizes.stride + c) >> 1u])[c & 1u];
}
for (var mode = 0u; mode < MODES; mode++) {
let known = facts[(chunk * MODES + mode) * sizes.components + c];
let p = (factor_of(known) * other + 16) >> 5u;
sums[mode] += costs[base_of(known) * PROXY_BUCKETS + bucket_of(u32(abs(value - 4 * p)))];
}
}
//!subgroups
//!else
for (var mode = 0u; mode < MODES; mode++) {
moves[(candidate * MODES + mode) * 32u + lane] = sums[mode];
}
//!end
}
//!subgroups
let alike = subgroupMin(candidate) == subgroupMax(candidate);
let chosen_lane = subgroupElect();
for (var mode = 0u; mode < MODES; mode++) {
let all = subgroupAdd(sums[mode]);
if (present && (chosen_lane || !alike)) {
atomicAdd(&prices[candidate * MODES + mode], select(sums[mode], all, alike));
}
}
//!end
workgroupBarrier();
var offered = NONE;
if (local < CANDIDATES * MODES) {
let summed = local / MODES;
var there = summed == 0u || (summed == 1u && t > 0u);
if (summed > 1u) {
there = atomicLoad(&keys[summed - 2u]) != NONE;
}
if (there) {
//!subgroups
let sum = atomicLoad(&prices[local]);
//!else
var sum = 0u;
for (var i = 0u; i < 32u; i++) {
sum += moves[local * 32u + ((i + local) & 31u)];
}
//!end
offered = (sum << 5u) | local;
}
}
offer(4u, offered);
workgroupBarrier();
let best = atomicLoad(&keys[4]) & 31u;
var chosen = 0xffffu;
if (best / MODES == 1u) {
chosen = t - 1u;
} else if (best / MODES > 1u) {
chosen = nearest[best / MODES - 2u];
}
return chosen | ((best % MODES) << 16u) | (1u << 24u);
}
override CHOOSE: bool = false;
@group(0) @binding(1) var<storage, read> facts: array<u32>;
@group(0) @binding(2) var<storage, read> rows: array<i32>;
@group(0) @binding(3) var<storage, read_write> levels: array<u32>;
@group(0) @binding(4) var<storage, read_write> reconstruction: array<u32>;
@group(0) @binding(5) var<storage, read_write> words: array<u32>;
@group(0) @binding(6) var<storage, read_write> branches: array<vec4<i32>>;
@group(0) @binding(7) var<storage, read> costs: array<u32>;
@group(0) @binding(8) var<uniform> sizes: Sizes;
const THREADS = 256u;
const SEGMENTS = 32u;
const JOINED = 4u;
var<workgroup> beginnings: array<Costs, 32>;
var<workgroup> maps: array<u32, 32>;
var<workgroup> last_state: u32;
var<workgroup> moves: array<u32, 1024>;
fn predicted(chunk: u32, t: u32, word: u32, pair: u32) -> vec2<i32> {
let reference = word & 0xffffu;
if (reference >= t) {
return vec2(0);
}
let other = halves(reconstruction[(((chunk * sizes.tokens + reference) * sizes.stride) >> 1u) + pair]);
let at = fact_at(sizes, chunk, word, 2u * pair);
let factor = vec2(factor_of(facts[at]), factor_of(facts[at + 1u]));
return (factor * other + vec2(16)) >> vec2(5u);
}
fn quantize_token(chunk: u32, t: u32, word: u32, local: u32) {
let components = sizes.components;
let row = (chunk * sizes.tokens + t) * sizes.stride;
let own = chunk * sizes.stride;
for (var pair = local; 2u * pair < components; pair += THREADS) {
let p = predicted(chunk, t, word, pair);
for (var j = 0u; j < 2u; j++) {
let c = 2u * pair + j;
if (c < components) {
let residual = rows[row + c] - 4 * p[j];
let table = 2u * class_of(facts[fact_at(sizes, chunk, word, c)], word >> 24u);
branches[own + c] = vec4(
even_level(table, residual).y,
level_cost(table, residual, odd_level(table, residual)),
even_level(table + 1u, residual).y,
level_cost(table + 1u, residual, odd_level(table + 1u, residual)),
);
}
}
}
storageBarrier();
let length = ((components + 4u * SEGMENTS - 1u) / (4u * SEGMENTS)) * 4u;
{
let begin = min(components, (local / STATES) * length);
let end = min(components, begin + length);
var c = beginning_in(local % STATES);
for (var i = begin; i < end; i++) {
c = advance(c, branches[own + i]).costs;
}
matrices[local] = c;
}
workgroupBarrier();
if (local < THREADS / JOINED) {
let first = (local / STATES) * JOINED;
var c = matrices[first * STATES + local % STATES];
for (var k = 1u; k < JOINED; k++) {
c = through(c, first + k);
}
matrices[THREADS + local] = c;
}
workgroupBarrier();
if (local < SEGMENTS / JOINED) {
var c = beginning_in(0u);
for (var i = 0u; i < local; i++) {
c = through(c, SEGMENTS + i);
}
for (var k = 0u; k < JOINED; k++) {
beginnings[local * JOINED + k] = c;
c = through(c, local * JOINED + k);
}
if (local == SEGMENTS / JOINED - 1u) {
let both = min(c.low, c.high);
let least = min(min(both.x, both.y), min(both.z, both.w));
let ends = select(vec4(8u), vec4(0u, 1u, 2u, 3u), c.low == vec4(least));
let high_ends = select(vec4(8u), vec4(4u, 5u, 6u, 7u), c.high == vec4(least));
let lowest = min(ends, high_ends);
last_state = min(min(lowest.x, lowest.y), min(lowest.z, lowest.w));
}
}
workgroupBarrier();
let begin = min(components, local * length);
let end = min(components, begin + length);
if (local < SEGMENTS) {
var c = beginnings[local];
var began = Costs(vec4(0, 1, 2, 3), vec4(4, 5, 6, 7));
var four = 0u;
for (var i = begin; i < end; i++) {
let step = advance(c, branches[own + i]);
c = step.costs;
let first = first_predecessors(began);
let second = second_predecessors(began);
began = Costs(select(first, second, step.low), select(first, second, step.high));
let taken = select(vec4(0u), vec4(1u, 2u, 4u, 8u), step.low) | select(vec4(0u), vec4(16u, 32u, 64u, 128u), step.high);
four |= (taken.x | taken.y | taken.z | taken.w) << (8u * (i & 3u));
if ((i & 3u) == 3u || i + 1u == end) {
moves[i >> 2u] = four;
four = 0u;
}
}
let low = vec4<u32>(began.low) << vec4(0u, 4u, 8u, 12u);
let high = vec4<u32>(began.high) << vec4(16u, 20u, 24u, 28u);
let all = low | high;
maps[local] = all.x | all.y | all.z | all.w;
}
workgroupBarrier();
if (local < SEGMENTS) {
var state = last_state;
for (var g = SEGMENTS - 1u; g > local; g--) {
state = (maps[g] >> (4u * state)) & 7u;
}
var four = 0u;
for (var i = end; i > begin; i--) {
let at = i - 1u;
let shift = 8u * (at & 3u);
if (i == end || (at & 3u) == 3u) {
four = moves[at >> 2u];
}
let came = origin(state, (four >> (shift + state)) & 1u);
four = (four & ~(255u << shift)) | (came << shift);
state = came >> 1u;
if ((at & 3u) == 0u) {
moves[at >> 2u] = four;
}
}
}
workgroupBarrier();
for (var pair = local; 2u * pair < sizes.stride; pair += THREADS) {
var coded = vec2(0);
var quarters = vec2(0);
if (2u * pair < components) {
let p = predicted(chunk, t, word, pair);
for (var j = 0u; j < 2u; j++) {
let c = 2u * pair + j;
if (c < components) {
let residual = rows[row + c] - 4 * p[j];
let came = (moves[c >> 2u] >> (8u * (c & 3u))) & 15u;
let quantizer = came >> 3u;
let table = 2u * class_of(facts[fact_at(sizes, chunk, word, c)], word >> 24u) + quantizer;
var level = odd_level(table, residual);
if ((came & 1u) == 0u) {
level = even_level(table, residual).x;
}
coded[j] = 2 * level + i32(quantizer);
quarters[j] = p[j] + 4 * reconstruct(level, quantizer);
}
}
}
levels[(row >> 1u) + pair] = joined(coded);
reconstruction[(row >> 1u) + pair] = joined(quarters);
}
storageBarrier();
}
@compute @workgroup_size(256)
fn encode(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
let chunk = group.x;
for (var t = sizes.begin; t < sizes.end; t++) {
var word: u32;
if (CHOOSE) {
word = choose_prediction(chunk, t, local);
if (local == 0u) {
words[chunk * sizes.tokens + t] = word;
}
} else {
word = words[chunk * sizes.tokens + t];
}
quantize_token(chunk, t, word, local);
}
}`,
};
