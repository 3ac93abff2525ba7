// Levels of the integer transform as planes of bytes: level = 256 · high + low, both signed. A workgroup takes 128 tokens ×
// 64 depths, an invocation 32 depths of one token, and says in `flags` whether any of the high bytes is not 0.

struct Sizes {
  tokens: u32,
  // Vectors (8 levels) from row to row of the levels, and vector at which to begin.
  stride: u32,
  begin: u32,
  // Tiles of the depth.
  tiles: u32,
}

@group(0) @binding(0) var<storage, read> levels: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> low: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> high: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> flags: array<u32>;
@group(0) @binding(4) var<uniform> sizes: Sizes;

var<workgroup> any_high: atomic<u32>;

// Eight levels, two to a word, from vector `at` of a row on; 0 beyond its end.
fn levels_at(token: u32, at: u32) -> vec4<u32> {
  if (token >= sizes.tokens || at >= sizes.stride) {
    return vec4(0u);
  }
  return levels[sizes.begin + token * sizes.stride + at];
}

fn low_bytes(pair: vec2<u32>) -> u32 {
  let bytes = (pair & vec2(0xffu)) | ((pair >> vec2(8u)) & vec2(0xff00u));
  return bytes.x | (bytes.y << 16u);
}

fn high_bytes(pair: vec2<u32>) -> u32 {
  // (level + 128) >> 8 of each half.
  let first = ((pair & vec2(0xffffu)) + 128u) >> vec2(8u);
  let second = ((pair >> vec2(16u)) + 128u) >> vec2(8u);
  let bytes = (first & vec2(0xffu)) | ((second & vec2(0xffu)) << vec2(8u));
  return bytes.x | (bytes.y << 16u);
}

@compute @workgroup_size(256)
fn split(@builtin(local_invocation_index) id: u32, @builtin(workgroup_id) group: vec3<u32>) {
  let token = group.y * 128u + id / 2u;
  let at = group.x * 8u + id % 2u * 4u;
  let a = levels_at(token, at);
  let b = levels_at(token, at + 1u);
  let c = levels_at(token, at + 2u);
  let d = levels_at(token, at + 3u);
  let high0 = vec4(high_bytes(a.xy), high_bytes(a.zw), high_bytes(b.xy), high_bytes(b.zw));
  let high1 = vec4(high_bytes(c.xy), high_bytes(c.zw), high_bytes(d.xy), high_bytes(d.zw));
  if (token < sizes.tokens) {
    let to = token * sizes.tiles * 4u + group.x * 4u + id % 2u * 2u;
    low[to] = vec4(low_bytes(a.xy), low_bytes(a.zw), low_bytes(b.xy), low_bytes(b.zw));
    low[to + 1u] = vec4(low_bytes(c.xy), low_bytes(c.zw), low_bytes(d.xy), low_bytes(d.zw));
    high[to] = high0;
    high[to + 1u] = high1;
  }
  let seen = high0 | high1;
  var some = (seen.x | seen.y | seen.z | seen.w) != 0u;
//!subgroups
  some = subgroupAny(some);
  some = subgroupElect() && some;
//!end
  if (some) {
    atomicOr(&any_high, 1u);
  }
  workgroupBarrier();
  if (id == 0u) {
    flags[group.y * sizes.tiles + group.x] = atomicLoad(&any_high);
  }
}
