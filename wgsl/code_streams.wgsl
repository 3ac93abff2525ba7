// Streams of codes, shifts and scales → coefficients. A workgroup turns a tile of 64 components × 64 tokens, so that both
// sides are read and written along memory.
//!include include/elements.wgsl
//!include include/codes.wgsl

struct Sizes {
  // First vector of the coefficients within their binding, and vectors of a row.
  coefficients: u32,
  across: u32,
  // The tokens of each chunk whose coefficients are bound, and all tokens of a chunk.
  token_begin: u32,
  token_end: u32,
  tokens: u32,
  components: u32,
  groups: u32,
  // Whether codes are packed; else a byte each.
  packed: u32,
  chunks: u32,
  // By stream: its first byte within its binding, and its bytes of a chunk.
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
// A component each: group | type << 30, 0 outside any group, and its row in the stream of its type.
@group(0) @binding(5) var<storage, read> places: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> coefficients: array<vec4<u32>>;
@group(0) @binding(7) var<uniform> sizes: Sizes;

const TOKENS = 64u;
const COMPONENTS = 64u;
// Words of a component's codes in workgroup memory, one more than it has so that banks differ.
const ROW = 17u;

// Four codes of a component in a word.
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

// The four bytes from byte `at` on, which lie in two words.
fn joined(first: u32, second: u32, at: u32) -> u32 {
  let shift = 8u * (at & 3u);
  return (first >> shift) | select(second << ((32u - shift) & 31u), 0u, shift == 0u);
}

// The four bytes from byte `at` on of the stream of a type.
fn bytes_at(kind: u32, at: u32) -> u32 {
  return joined(word(kind, at / 4u), word(kind, at / 4u + 1u), at);
}

// Four codes of 4 bits, or of 2, a byte each.
fn spread4(found: u32) -> u32 {
  return (found & 0xfu) | ((found & 0xf0u) << 4u) | ((found & 0xf00u) << 8u) | ((found & 0xf000u) << 12u);
}

fn spread2(found: u32) -> u32 {
  return (found & 3u) | ((found & 0xcu) << 6u) | ((found & 0x30u) << 12u) | ((found & 0xc0u) << 18u);
}

// Puts the 16 codes from byte `at` on.
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

// Byte j of each word, in word j.
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

// Where codes of a type begin.
fn begin_of(kind: u32, chunk: u32) -> u32 {
  if (kind == 1u) {
    return sizes.int2_begin + chunk * sizes.int2_bytes;
  }
  if (kind == 2u) {
    return sizes.int4_begin + chunk * sizes.int4_bytes;
  }
  return sizes.fp8_begin + chunk * sizes.fp8_bytes;
}

// Shifts and scales of a group and four tokens as the quantizer has them: the low and the high halves of words.
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

// The coefficients of four components of one group.
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
  // 16 tokens of a component.
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
  // Four tokens of four components.
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
}
