// Tables that the classes of components and tokens choose.
//!include include/trellis.wgsl

@group(0) @binding(0) var<storage, read> base: array<u32>;
@group(0) @binding(1) var<storage, read> models: array<u32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read> limits: array<u32>;
@group(0) @binding(4) var<storage, read_write> bounds: array<u32>;
@group(0) @binding(5) var<uniform> sizes: Sizes;

@group(0) @binding(3) var<storage, read_write> classes: array<u32>;
@group(0) @binding(4) var<uniform> class_sizes: Sizes;

fn base_at(model: u32, mode: u32, c: u32, components: u32) -> u32 {
  let i = (model * MODES + mode) * components + c;
  return (base[i >> 2u] >> (8u * (i & 3u))) & 255u;
}

fn offset_at(i: u32) -> i32 {
  return bitcast<i32>(offsets[i >> 2u] << (24u - 8u * (i & 3u))) >> 24u;
}

// Limits of both quantizers' tables for each of 16 kinds of token, two bytes each; an invocation a component.
@compute @workgroup_size(64)
fn bounds_of(@builtin(global_invocation_id) id: vec3<u32>) {
  let c = id.x;
  let chunk = id.y;
  if (c >= sizes.components) {
    return;
  }
  let i = chunk * sizes.components + c;
  let offset = offset_at(i);
  for (var pair = 0u; pair < 8u; pair++) {
    var both = 0u;
    for (var j = 0u; j < 2u; j++) {
      let kind = 2u * pair + j;
      if (kind < MODES * ENERGIES) {
        let index = base_at(models[chunk], kind / ENERGIES, c, sizes.components);
        let table = 2u * token_class(index, offset, kind % ENERGIES);
        both |= ((limits[table >> 2u] >> (8u * (table & 3u))) & 0xffffu) << (16u * j);
      }
    }
    bounds[i * 8u + pair] = both;
  }
}

// Classes [components][16] for the entropy coder; an invocation a component.
@compute @workgroup_size(64)
fn classes_of(@builtin(global_invocation_id) id: vec3<u32>) {
  let c = id.x;
  let chunk = id.y;
  if (c >= class_sizes.components) {
    return;
  }
  let i = chunk * class_sizes.components + c;
  let offset = offset_at(i);
  for (var word = 0u; word < 4u; word++) {
    var four = 0u;
    for (var j = 0u; j < 4u; j++) {
      let kind = 4u * word + j;
      if (kind < MODES * ENERGIES) {
        let index = base_at(models[chunk], kind / ENERGIES, c, class_sizes.components);
        four |= token_class(index, offset, kind % ENERGIES) << (8u * j);
      }
    }
    classes[i * 4u + word] = four;
  }
}
