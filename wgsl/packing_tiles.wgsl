// pack and unpack where every component's codes fill whole words and tokens begin at words: tiles of 128 tokens × 64
// components through workgroup memory, so that both sides are read and written along memory.

struct Sizes {
  // First packed byte and symbol byte within their bindings, multiples of 4.
  packed: u32,
  symbols: u32,
  tokens: u32,
  components: u32,
}

@group(0) @binding(0) var<storage, read> source: array<u32>;
// u32 a component: group | type << 30, 0 outside any group.
@group(0) @binding(1) var<storage, read> lookup: array<u32>;
// A group each: first packed byte, first component, size, bits of a code.
@group(0) @binding(2) var<storage, read> packing: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> result: array<u32>;
@group(0) @binding(4) var<uniform> sizes: Sizes;

const TOKENS = 128u;
const COMPONENTS = 64u;
// Words of a component in workgroup memory, one more than it has so that banks differ.
const ROW = 33u;

var<workgroup> words: array<u32, 2112>;
// First packed word of each component, and bits of its codes.
var<workgroup> begins: array<u32, 64>;
var<workgroup> widths: array<u32, 64>;

struct Tile { token: u32, component: u32, tokens: u32 }

fn tile_of(group: vec3<u32>, groups: vec3<u32>) -> Tile {
  let across = (sizes.components + COMPONENTS - 1u) / COMPONENTS;
  let id = group.y * groups.x + group.x;
  let token = id / across * TOKENS;
  let tokens = select(0u, min(TOKENS, sizes.tokens - token), token < sizes.tokens);
  return Tile(token, id % across * COMPONENTS, tokens);
}

fn prepare(tile: Tile, local: u32) {
  if (local < COMPONENTS) {
    let component = tile.component + local;
    var entry = 0u;
    if (component < sizes.components) {
      entry = lookup[component];
    }
    let g = packing[entry & 0x3fffffffu];
    let bits = select(g.w, 0u, entry == 0u);
    widths[local] = bits;
    begins[local] = (sizes.packed + g.x + (component - g.y) * (sizes.tokens * bits / 8u) + tile.token * bits / 8u) / 4u;
  }
}

// Where the word of token t and quad of components q lies: shifted so that a warp's reads meet different banks.
fn place(t: u32, q: u32) -> u32 {
  return t * 16u + ((q + 2u * (t / 32u)) & 15u);
}

@compute @workgroup_size(256)
fn pack(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let tile = tile_of(group, groups);
  prepare(tile, local);
  let quads = min(16u, (sizes.components - tile.component) / 4u);
  for (var i = 0u; i < 8u; i++) {
    let t = local / 16u + 16u * i;
    let q = local % 16u;
    var word = 0u;
    if (t < tile.tokens && q < quads) {
      word = source[(sizes.symbols + (tile.token + t) * sizes.components + tile.component) / 4u + q];
    }
    words[place(t, q)] = word;
  }
  workgroupBarrier();
  // 32 tokens of a component.
  let part = local % 4u;
  let component = local / 4u;
  let quad = component / 4u;
  let bits = widths[component];
  let shift = 8u * (component & 3u);
  let mask = (1u << bits) - 1u;
  var to = begins[component] + part * bits;
  var word = 0u;
  var filled = 0u;
  if (bits > 0u) {
    // Runtimes that guard loops make each turn dear: four tokens a turn.
    for (var t = 32u * part; t < min(32u * part + 32u, tile.tokens); t += 4u) {
      let a = (words[place(t, quad)] >> shift) & mask;
      let b = (words[place(t + 1u, quad)] >> shift) & mask;
      let c = (words[place(t + 2u, quad)] >> shift) & mask;
      let d = (words[place(t + 3u, quad)] >> shift) & mask;
      word |= (a | (b << bits) | (c << (2u * bits)) | (d << (3u * bits))) << filled;
      filled += 4u * bits;
      if (filled == 32u) {
        result[to] = word;
        to++;
        word = 0u;
        filled = 0u;
      }
    }
  }
}

// The code of a component of the tile; 0 where it has none.
fn code_of(component: u32, t: u32) -> u32 {
  let bits = widths[component];
  let word = words[component * ROW + t * bits / 32u];
  return (word >> ((t * bits) & 31u)) & ((1u << bits) - 1u);
}

@compute @workgroup_size(256)
fn unpack(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let tile = tile_of(group, groups);
  prepare(tile, local);
  workgroupBarrier();
  // Four invocations a component, whose words follow one another.
  let of_component = local / 4u;
  let own_bits = widths[of_component];
  for (var i = local % 4u; i < tile.tokens * own_bits / 32u; i += 4u) {
    words[of_component * ROW + i] = source[begins[of_component] + i];
  }
  workgroupBarrier();
  let quads = min(16u, (sizes.components - tile.component) / 4u);
  let q = local % 16u;
  for (var i = 0u; i < 8u; i++) {
    let t = local / 16u + 16u * i;
    if (t < tile.tokens && q < quads) {
      let word = code_of(4u * q, t) | (code_of(4u * q + 1u, t) << 8u) | (code_of(4u * q + 2u, t) << 16u) |
        (code_of(4u * q + 3u, t) << 24u);
      result[(sizes.symbols + (tile.token + t) * sizes.components + tile.component) / 4u + q] = word;
    }
  }
}
