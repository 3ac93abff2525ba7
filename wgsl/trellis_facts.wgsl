// What an encoder knows of a component in each mode, in a word: the factor of the prediction, the class, and above 16 bits
// the chunk's offset of it, a byte each. Bindings of a stage are few.
//!include include/trellis.wgsl

// Without them all offsets are 0.
override OFFSETS: bool = false;

@group(0) @binding(0) var<storage, read> rho: array<u32>;
@group(0) @binding(1) var<storage, read> base: array<u32>;
@group(0) @binding(2) var<storage, read> models: array<u32>;
@group(0) @binding(3) var<storage, read> offsets: array<u32>;
@group(0) @binding(4) var<storage, read_write> facts: array<u32>;
@group(0) @binding(5) var<uniform> sizes: Sizes;

// An invocation a component.
@compute @workgroup_size(64)
fn facts_of(@builtin(global_invocation_id) id: vec3<u32>) {
  let c = id.x;
  let chunk = id.y;
  if (c >= sizes.components) {
    return;
  }
  var offset = 0u;
  if (OFFSETS) {
    let i = chunk * sizes.components + c;
    offset = (offsets[i >> 2u] >> (8u * (i & 3u))) & 255u;
  }
  for (var mode = 0u; mode < MODES; mode++) {
    let i = (models[chunk] * MODES + mode) * sizes.components + c;
    let factor = (rho[i >> 2u] >> (8u * (i & 3u))) & 255u;
    let index = (base[i >> 2u] >> (8u * (i & 3u))) & 255u;
    facts[(chunk * MODES + mode) * sizes.components + c] = factor | (index << 8u) | (offset << 16u);
  }
}
