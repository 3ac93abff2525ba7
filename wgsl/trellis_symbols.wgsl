// Levels → symbols and escapes.
//!include include/trellis.wgsl
//!include include/trellis_levels.wgsl

// First zigzag code that each table lacks, a byte each.
@group(0) @binding(0) var<storage, read> limits: array<u32>;
@group(0) @binding(1) var<storage, read> facts: array<u32>;
@group(0) @binding(2) var<storage, read> words: array<u32>;
// 2 · level + quantizer.
@group(0) @binding(3) var<storage, read> levels: array<u32>;
@group(0) @binding(4) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;
@group(0) @binding(6) var<uniform> sizes: Sizes;

@group(0) @binding(4) var<storage, read> places: array<u32>;
@group(0) @binding(5) var<storage, read> lengths: array<u32>;
@group(0) @binding(6) var<storage, read> begins: array<u32>;
@group(0) @binding(7) var<storage, read_write> bytes: array<atomic<u32>>;
@group(0) @binding(8) var<uniform> escape_sizes: Sizes;

// Of 32 components, each [32 tokens] and a spare: symbols, and above 8 bits the bytes of their escapes.
var<workgroup> tile: array<u32, 1056>;
// By component.
var<workgroup> sums: array<atomic<u32>, 32>;

struct Symbol {
  symbol: u32,
  // What an escape says.
  value: u32,
}

// Symbol of a coded level whose component and token are known.
fn symbol_of(coded: i32, known: u32, word: u32) -> Symbol {
  let level = coded >> 1u;
  let table = 2u * class_of(known, word >> 24u) + u32(coded & 1);
  let limit = (limits[table >> 2u] >> (8u * (table & 3u))) & 255u;
  let z = zigzag(level);
  return Symbol(select(escape_of(level), z, z < limit), z - limit);
}

// Symbols [components][tokens], rows padded to whole words, and the bytes of escapes of each row's groups of 32 tokens; a
// workgroup 32 components of such a group.
@compute @workgroup_size(256)
fn symbols_of(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let chunk = group.z;
  let first = group.y * 32u;
  let t = group.x * 32u + (local >> 3u);
  // Four components of a token.
  for (var k = 0u; k < 4u; k++) {
    let row = (local & 7u) * 4u + k;
    let c = first + row;
    var entry = 0u;
    if (t < sizes.tokens && c < sizes.components) {
      let token = chunk * sizes.tokens + t;
      let word = words[token];
      let coded = halves(levels[(token * sizes.stride + c) >> 1u])[c & 1u];
      let symbol = symbol_of(coded, facts[fact_at(sizes, chunk, word, c)], word);
      entry = symbol.symbol | select(0u, leb_bytes(symbol.value) << 8u, symbol.symbol >= ESCAPE_ODD);
    }
    tile[row * 33u + (local >> 3u)] = entry;
  }
  workgroupBarrier();
  // Four tokens of a component.
  let row = local >> 3u;
  let at = row * 33u + (local & 7u) * 4u;
  let four = vec4(tile[at], tile[at + 1u], tile[at + 2u], tile[at + 3u]);
  let begin = group.x * 32u + (local & 7u) * 4u;
  let inside = first + row < sizes.components;
  if (inside && begin < sizes.tokens) {
    let bytes4 = (four & vec4(255u)) << vec4(0u, 8u, 16u, 24u);
    let place = (chunk * sizes.components + first + row) * ((sizes.tokens + 3u) >> 2u) + (begin >> 2u);
    symbols[place] = bytes4.x | bytes4.y | bytes4.z | bytes4.w;
  }
  let taken = four >> vec4(8u);
  let sum = taken.x + taken.y + taken.z + taken.w;
  // Few have any.
  if (sum > 0u) {
    atomicAdd(&sums[row], sum);
  }
  workgroupBarrier();
  if (inside && (local & 7u) == 0u) {
    counts[(chunk * sizes.components + first + row) * sizes.groups + group.x] = atomicLoad(&sums[row]);
  }
}

// The escapes themselves, at begins[chunk] + places[chunk][component][group]; an invocation a group, of which most have
// none. Words are shared with neighbours, and with what is not the chunk's.
@compute @workgroup_size(64)
fn write_escapes(@builtin(global_invocation_id) id: vec3<u32>) {
  let count = escape_sizes.components * escape_sizes.groups;
  let chunk = id.y;
  if (id.x >= count) {
    return;
  }
  let own = chunk * count + id.x;
  var end = lengths[chunk];
  if (id.x + 1u < count) {
    end = places[own + 1u];
  }
  var at = begins[chunk] + places[own];
  if (at == begins[chunk] + end) {
    return;
  }
  let c = id.x / escape_sizes.groups;
  let first = (id.x - c * escape_sizes.groups) * 32u;
  for (var t = first; t < min(first + 32u, escape_sizes.tokens); t++) {
    let token = chunk * escape_sizes.tokens + t;
    let word = words[token];
    let coded = halves(levels[(token * escape_sizes.stride + c) >> 1u])[c & 1u];
    let symbol = symbol_of(coded, facts[fact_at(escape_sizes, chunk, word, c)], word);
    if (symbol.symbol >= ESCAPE_ODD) {
      for (var rest = symbol.value; ; rest >>= 7u) {
        let byte = (rest & 127u) | select(0u, 128u, rest >= 128u);
        let shift = 8u * (at & 3u);
        atomicAnd(&bytes[at >> 2u], ~(255u << shift));
        atomicOr(&bytes[at >> 2u], byte << shift);
        at++;
        if (rest < 128u) {
          break;
        }
      }
    }
  }
}
