// Sums of what the 256 invocations of a workgroup have, from the first place to the last.

var<workgroup> sums: array<u32, 256>;

//!subgroups
// Places that subgroups have taken, and above 16 bits how many subgroups have.
var<workgroup> taken_places: atomic<u32>;

// Places of a subgroup are side by side; which subgroup comes first is left to chance.
struct Place {
  at: u32,
  subgroup: u32,
}

fn place_of(local: u32) -> Place {
  let size = subgroupAdd(1u);
  var first = 0u;
  if (subgroupElect()) {
    first = atomicAdd(&taken_places, size | 0x10000u);
  }
  first = subgroupBroadcastFirst(first);
  return Place((first & 0xffffu) + subgroupExclusiveAdd(1u), first >> 16u);
}

// The sum of x over all places before, and over all places. Every invocation calls it.
fn scan(place: Place, x: u32) -> vec2<u32> {
  var before = subgroupExclusiveAdd(x);
  let sum = subgroupAdd(x);
  if (subgroupElect()) {
    sums[place.subgroup] = sum;
  }
  workgroupBarrier();
  let count = atomicLoad(&taken_places) >> 16u;
  var all = 0u;
  for (var i = 0u; i < count; i++) {
    all += sums[i];
    before += select(0u, sums[i], i < place.subgroup);
  }
  workgroupBarrier();
  return vec2(before, all);
}
//!else
struct Place {
  at: u32,
}

fn place_of(local: u32) -> Place {
  return Place(local);
}

// The sum of x over all places before, and over all places. Every invocation calls it.
fn scan(place: Place, x: u32) -> vec2<u32> {
  sums[place.at] = x;
  for (var step = 1u; step < 256u; step *= 2u) {
    workgroupBarrier();
    var other = 0u;
    if (place.at >= step) {
      other = sums[place.at - step];
    }
    workgroupBarrier();
    sums[place.at] += other;
  }
  workgroupBarrier();
  let result = vec2(sums[place.at] - x, sums[255]);
  workgroupBarrier();
  return result;
}
//!end
