// Escapes of groups → escapes before each group, and what their number says; or their bytes.
//!include include/trellis.wgsl
//!include include/scan.wgsl

@group(0) @binding(0) var<storage, read> begins: array<u32>;
@group(0) @binding(1) var<storage, read_write> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> status: array<u32>;
@group(0) @binding(3) var<uniform> sizes: Sizes;

@group(0) @binding(0) var<storage, read_write> lengths: array<u32>;
@group(0) @binding(2) var<uniform> length_sizes: Sizes;

// Four counts an invocation; returns their sum. Every invocation calls it.
fn scan_chunk(chunk: u32, count: u32, local: u32) -> u32 {
  let place = place_of(local);
  var before = 0u;
  for (var base = 0u; base < count; base += 1024u) {
    let first = base + 4u * place.at;
    var own = array<u32, 4>(0u, 0u, 0u, 0u);
    var sum = 0u;
    for (var j = 0u; j < 4u; j++) {
      if (first + j < count) {
        own[j] = places[chunk * count + first + j];
        sum += own[j];
      }
    }
    let all = scan(place, sum);
    var at = before + all.x;
    before += all.y;
    for (var j = 0u; j < 4u; j++) {
      if (first + j < count) {
        places[chunk * count + first + j] = at;
      }
      at += own[j];
    }
  }
  return before;
}

// Numbers of escapes, a workgroup a chunk.
@compute @workgroup_size(256)
fn scan_counts(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let chunk = group.x;
  let before = scan_chunk(chunk, sizes.components * sizes.groups, local);
  if (local == 0u) {
    let values = begins[chunk + 1u] - begins[chunk];
    status[2u * chunk] = select(STATUS_OK, STATUS_SURPLUS, before < values);
    status[2u * chunk + 1u] = 0u;
  }
}

// Bytes of escapes, a workgroup a chunk.
@compute @workgroup_size(256)
fn scan_lengths(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let chunk = group.x;
  let sum = scan_chunk(chunk, length_sizes.components * length_sizes.groups, local);
  if (local == 0u) {
    lengths[chunk] = sum;
  }
}
