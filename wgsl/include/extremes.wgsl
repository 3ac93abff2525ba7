// The least and the largest key of every group of a workgroup of 256, each invocation having a slot of a group. Slots of a
// group are consecutive invocations.

//!subgroups
// By first invocation of a group: complements of the least keys, so that all begin at the 0 that workgroups begin with.
var<workgroup> least: array<atomic<u32>, 256>;
var<workgroup> most: array<atomic<u32>, 256>;

// An invocation without a group, or whose keys another one has.
const GIVEN = 0xffffffffu;

// Every invocation calls it; returns the group's extremes to the first of a group. `index` is the slot's number in its
// group; the largest group has 2^rounds at most.
fn extremes_of(local: u32, lane: u32, live: bool, index: u32, rounds: u32, low: u32, high: u32) -> vec2<u32> {
  // Pairs of lanes join what they have where their groups are the same, whatever the order of lanes.
  let lanes = subgroupBallot(true);
  var leader = select(GIVEN, local - index, live);
  var inverse = ~low;
  var largest = high;
  for (var round = 0u; round < min(rounds, 7u); round++) {
    let step = 1u << round;
    let other = lane ^ step;
    let their_leader = subgroupShuffleXor(leader, step);
    let their_inverse = subgroupShuffleXor(inverse, step);
    let their_largest = subgroupShuffleXor(largest, step);
    let there = ((lanes[(other >> 5u) & 3u] >> (other & 31u)) & 1u) == 1u;
    if (there && their_leader == leader) {
      inverse = max(inverse, their_inverse);
      largest = max(largest, their_largest);
      leader = select(leader, GIVEN, lane > other);
    }
  }
  if (leader != GIVEN) {
    atomicMax(&least[leader], inverse);
    atomicMax(&most[leader], largest);
  }
  workgroupBarrier();
  return vec2(~atomicLoad(&least[local]), atomicLoad(&most[local]));
}

// What the first of a group says to the others, who hear it after a barrier.
fn say(leader: u32, word: u32) {
  atomicStore(&least[leader], word);
}

fn heard(leader: u32) -> u32 {
  return atomicLoad(&least[leader]);
}
//!else
var<workgroup> least: array<u32, 256>;
var<workgroup> most: array<u32, 256>;

// Every invocation calls it; returns the group's extremes to the first of a group. `index` is the slot's number in its
// group of `slots`; the largest group has 2^rounds at most.
fn extremes_of(local: u32, live: bool, index: u32, slots: u32, rounds: u32, own_low: u32, own_high: u32) -> vec2<u32> {
  var low = own_low;
  var high = own_high;
  least[local] = low;
  most[local] = high;
  for (var round = 0u; round < rounds; round++) {
    let step = 1u << round;
    workgroupBarrier();
    if (live && (index & (2u * step - 1u)) == 0u && index + step < slots) {
      low = min(low, least[local + step]);
      high = max(high, most[local + step]);
      least[local] = low;
      most[local] = high;
    }
  }
  return vec2(low, high);
}

// What the first of a group says to the others, who hear it after a barrier.
fn say(leader: u32, word: u32) {
  least[leader] = word;
}

fn heard(leader: u32) -> u32 {
  return least[leader];
}
//!end
