// The quantizer in one pass: a workgroup takes some tokens of a segment of whole groups, an invocation up to 8 components
// of a group. Each coefficient is read once. Words of symbols that reach over the segment are left to `seams`.
//!include include/elements.wgsl
//!include include/codes.wgsl
//!include include/extremes.wgsl

struct Sizes {
  // First float32, symbol byte (a multiple of 4) and parameter word within their bindings.
  coefficients: u32,
  symbols: u32,
  parameters: u32,
  stride: u32,
  tokens: u32,
  components: u32,
  groups: u32,
  // Segments of the plan, most slots of one, rounds that join the slots of the largest group.
  segments: u32,
  widest: u32,
  rounds: u32,
  // Tokens of a workgroup, and most words of symbols of a token.
  rows: u32,
  words: u32,
}

// Rows begin at multiples of 4 float32: slots that do so too are read by whole vectors.
override VECTORS: bool = false;
// Slots begin and end at multiples of 4 symbols, and so do tokens: whole words are written.
override WORDS: bool = false;

@group(0) @binding(0) var<storage, read> coefficients: array<u32>;
@group(0) @binding(1) var<storage, read> slots: array<vec4<u32>>;
// First slot, slots, first component, one past the last.
@group(0) @binding(2) var<storage, read> segments: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> parameters: array<u32>;
@group(0) @binding(4) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(5) var<storage, read> coefficients4: array<vec4<u32>>;
@group(0) @binding(6) var<uniform> sizes: Sizes;

var<workgroup> staged: array<atomic<u32>, 768>;

// Unsigned numbers in the order of float32 values.
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

// Puts the codes of `count` components, the first at byte `at` of the staged words.
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
  // The least and the most of the slot; of fp8 the largest magnitude. What is beyond the slot repeats its first element.
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
      // A minimum of −0 becomes 0.
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
}
