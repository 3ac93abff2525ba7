// Symbols → residuals in steps: escapes to their symbols, and the trellis along the components of a token.
//!include include/trellis.wgsl

@group(0) @binding(0) var<storage, read> symbols: array<u32>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read> begins: array<u32>;
@group(0) @binding(4) var<storage, read> words: array<u32>;
@group(0) @binding(5) var<storage, read> bounds: array<u32>;
@group(0) @binding(6) var<storage, read_write> quarters: array<u32>;
@group(0) @binding(7) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(8) var<uniform> sizes: Sizes;

const TOKENS = 64u;
const COMPONENTS = 32u;
// Words of a token's part of a tile, one of them spare.
const ROW = 17u;
const MAX_CODE = 0x2000000u;

var<workgroup> tile: array<u32, 1088>;
var<workgroup> limits: array<u32, 256>;

// Next state by state and parity, a nibble each.
fn next_state(state: u32, parity: u32) -> u32 {
  return (select(0x62042640u, 0x73153751u, state >= 4u) >> (((state & 3u) << 3u) | (parity << 2u))) & 7u;
}

// Escapes among the bytes [begin, end).
fn escapes_between(begin: u32, end: u32) -> u32 {
  var count = 0u;
  for (var word = begin >> 2u; word << 2u < end; word++) {
    let at = word << 2u;
    count += escapes_in(symbols[word], bytes_between(max(begin, at) - at, min(end - at, 4u)));
  }
  return count;
}

// An invocation a token, 32 components at a time. Residuals beyond 16 bits become ±32,767, which no prediction brings back.
@compute @workgroup_size(64)
fn walk(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let chunk = group.y;
  let first = group.x * TOKENS;
  let t = first + local;
  let present = t < sizes.tokens;
  var kind = 0u;
  if (present) {
    kind = kind_of(words[chunk * sizes.tokens + t]);
  }
  let values_begin = begins[chunk];
  let values_count = begins[chunk + 1u] - values_begin;
  var state = 0u;
  var error = STATUS_OK;
  for (var c0 = 0u; c0 < sizes.stride; c0 += COMPONENTS) {
    let here = min(COMPONENTS, sizes.components - min(c0, sizes.components));
    workgroupBarrier();
    for (var i = local; i < here * 8u; i += TOKENS) {
      limits[i] = bounds[(chunk * sizes.components + c0) * 8u + i];
    }
    workgroupBarrier();
    var even = 0u;
    for (var k = 0u; k < COMPONENTS; k++) {
      var residual = 0;
      if (k < here && present) {
        let row = chunk * sizes.components + c0 + k;
        let at = row * sizes.tokens + t;
        let symbol = (symbols[at >> 2u] >> (8u * (at & 3u))) & 255u;
        let limit = (limits[k * 8u + (kind >> 1u)] >> (16u * (kind & 1u) + 8u * (state >> 2u))) & 255u;
        var z = symbol;
        if (symbol >= ESCAPE_ODD) {
          let rank = places[row * sizes.groups + (t >> 5u)] + escapes_between(at - (t & 31u), at);
          // One that is missing or wrong has all bits set.
          var value = 0xffffffffu;
          if (rank < values_count) {
            value = values[values_begin + rank];
          }
          z = select(0xffffffffu, value + limit, value < MAX_CODE);
          if (z > MAX_CODE || ((((z + 1u) >> 1u) ^ ((symbol + 1u) >> 1u)) & 1u) != 0u) {
            error = min(error, ((c0 + k) * sizes.tokens + t) << 2u);
            z = 0u;
          }
        } else if (symbol >= limit) {
          error = min(error, (((c0 + k) * sizes.tokens + t) << 2u) | 1u);
        }
        var magnitude = min((z + 1u) & 0xfffffffeu, 65534u);
        magnitude -= select(0u, 1u, magnitude > 0u && state >= 4u);
        magnitude = min(magnitude, 32767u);
        residual = select(-i32(magnitude), i32(magnitude), (z & 1u) == 1u);
        state = next_state(state, ((symbol + 1u) >> 1u) & 1u);
      }
      if ((k & 1u) == 1u) {
        tile[local * ROW + (k >> 1u)] = (even & 0xffffu) | (bitcast<u32>(residual) << 16u);
      } else {
        even = bitcast<u32>(residual);
      }
    }
    workgroupBarrier();
    // 16 invocations a token.
    let half = local & 15u;
    for (var r = local >> 4u; r < TOKENS; r += 4u) {
      if (first + r < sizes.tokens && c0 + 2u * half < sizes.stride) {
        quarters[((chunk * sizes.tokens + first + r) * sizes.stride + c0) / 2u + half] = tile[r * ROW + half];
      }
    }
  }
  if (error != STATUS_OK) {
    atomicMin(&status[2u * chunk], error);
  }
}
