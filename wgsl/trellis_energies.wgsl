// Energies of tokens and offsets of components, by the exact cost of the levels found.
//!include include/trellis.wgsl
//!include include/trellis_levels.wgsl
//!include include/trellis_rates.wgsl

// Facts without offsets, where offsets are chosen.
@group(0) @binding(1) var<storage, read> facts: array<u32>;
// 2 · level + quantizer.
@group(0) @binding(2) var<storage, read> levels: array<u32>;
@group(0) @binding(3) var<storage, read_write> words: array<u32>;
@group(0) @binding(4) var<uniform> sizes: Sizes;

@group(0) @binding(3) var<storage, read> token_words: array<u32>;
@group(0) @binding(4) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(5) var<uniform> offset_sizes: Sizes;

//!subgroups
var<workgroup> sums: array<atomic<u32>, ENERGIES>;
//!else
var<workgroup> sums: array<vec3<u32>, 64>;
//!end
var<workgroup> chosen: array<u32, 64>;

// The energy under which a token's levels are the shortest, of equals the middle one, then the lower; a workgroup a token.
@compute @workgroup_size(64)
fn energies(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let i = group.y * groups.x + group.x;
  let tokens = sizes.end - sizes.begin;
  let chunk = i / tokens;
  if (chunk >= sizes.chunks) {
    return;
  }
  let token = chunk * sizes.tokens + sizes.begin + i - chunk * tokens;
  let word = words[token];
  var sum = vec3(0u);
  for (var c = local; c < sizes.components; c += 64u) {
    let coded = halves(levels[(token * sizes.stride + c) >> 1u])[c & 1u];
    let fact = facts[fact_at(sizes, chunk, word, c)];
    for (var energy = 0u; energy < ENERGIES; energy++) {
      sum[energy] += level_bits(2u * class_of(fact, energy) + u32(coded & 1), coded >> 1u);
    }
  }
//!subgroups
  for (var energy = 0u; energy < ENERGIES; energy++) {
    let all = subgroupAdd(sum[energy]);
    if (subgroupElect()) {
      atomicAdd(&sums[energy], all);
    }
  }
  workgroupBarrier();
//!else
  sums[local] = sum;
  for (var step = 32u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (local < step) {
      sums[local] += sums[local + step];
    }
  }
//!end
  if (local == 0u) {
//!subgroups
    let bits = vec3(atomicLoad(&sums[0]), atomicLoad(&sums[1]), atomicLoad(&sums[2]));
//!else
    let bits = sums[0];
//!end
    var best = select(1u, 0u, bits.x < bits.y);
    best = select(best, 2u, bits.z < min(bits.x, bits.y));
    words[token] = (word & 0xffffffu) | (best << 24u);
  }
}

// The offset of each component's class under which its levels are the shortest: 0, −4, −2, 2 or 4, the first of the
// cheapest, where one other than 0 costs three bits; an invocation a component of all chunks, four a word.
@compute @workgroup_size(64)
fn choose_offsets(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + local;
  let chunk = i / offset_sizes.components;
  let c = i - chunk * offset_sizes.components;
  var best = 0;
  if (chunk < offset_sizes.chunks) {
    // By (offset + 4) / 2.
    var bits = array<u32, 5>(768u, 768u, 0u, 768u, 768u);
    for (var t = 0u; t < offset_sizes.tokens; t++) {
      let token = chunk * offset_sizes.tokens + t;
      let word = token_words[token];
      let coded = halves(levels[(token * offset_sizes.stride + c) >> 1u])[c & 1u];
      let index = base_of(facts[fact_at(offset_sizes, chunk, word, c)]);
      for (var j = 0; j < 5; j++) {
        let table = 2u * token_class(index, 2 * j - 4, word >> 24u) + u32(coded & 1);
        bits[j] += level_bits(table, coded >> 1u);
      }
    }
    var least = bits[2];
    for (var j = 0; j < 5; j++) {
      if (bits[j] < least) {
        least = bits[j];
        best = 2 * j - 4;
      }
    }
  }
  chosen[local] = bitcast<u32>(best) & 255u;
  workgroupBarrier();
  if ((local & 3u) == 0u && chunk < offset_sizes.chunks) {
    offsets[i >> 2u] = chosen[local] | (chosen[local + 1u] << 8u) | (chosen[local + 2u] << 16u) | (chosen[local + 3u] << 24u);
  }
}
