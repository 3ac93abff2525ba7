// Moves encoded streams together: where each begins, then the words.
//!include include/scan.wgsl

struct Args {
  streams: u32,
  first: u32,
  slotWords: u32,
  // Parts of 1024 words of a slot.
  parts: u32,
};

@group(0) @binding(0) var<storage, read_write> lengths: array<u32>;
@group(0) @binding(1) var<storage, read_write> begins: array<u32>;
@group(0) @binding(2) var<uniform> sumArgs: Args;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> bytes: array<u32>;
@group(0) @binding(4) var<uniform> compactArgs: Args;

const ABSENT = 0xffffffffu;

// begins[i] = Σ lengths before i, each rounded up to a multiple of 4. One workgroup.
@compute @workgroup_size(256)
fn sum(@builtin(local_invocation_index) id: u32) {
  let place = place_of(id);
  var before = 0u;
  for (var base = 0u; base < sumArgs.streams; base += 1024u) {
    var own: array<u32, 4>;
    var total = 0u;
    let first = base + 4u * place.at;
    for (var k = 0u; k < 4u; k++) {
      own[k] = total;
      let i = first + k;
      if (i < sumArgs.streams) {
        let length = lengths[i];
        total += select((length + 3u) & ~3u, 0u, length == ABSENT);
      }
    }
    let sum = scan(place, total);
    for (var k = 0u; k < 4u; k++) {
      if (first + k < sumArgs.streams) {
        begins[first + k] = before + sum.x + own[k];
      }
    }
    before += sum.y;
  }
  if (id == 0u) {
    begins[sumArgs.streams] = before;
  }
}

@compute @workgroup_size(256)
fn compact(
  @builtin(local_invocation_index) id: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let item = group.y * groups.x + group.x;
  let own = item / compactArgs.parts;
  if (own >= compactArgs.streams) {
    return;
  }
  let length = lengths[compactArgs.first + own];
  if (length == ABSENT) {
    return;
  }
  // A stream of 4 n + 2 bytes begins in the middle of a word, and its last word is followed by zeros.
  let count = (length + 3u) / 4u;
  let source = (own + 1u) * compactArgs.slotWords - count;
  let target_ = begins[compactArgs.first + own] / 4u;
  let part = item % compactArgs.parts * 1024u;
  for (var i = part + id; i < min(part + 1024u, count); i += 256u) {
    var word = slots[source + i];
    if ((length & 2u) != 0u) {
      word >>= 16u;
      if (i + 1u < count) {
        word |= slots[source + i + 1u] << 16u;
      }
    }
    bytes[target_ + i] = word;
  }
}
