// Which token a token is predicted from, and how.

const SIMILAR_COMPONENTS = 64u;
const SIMILAR_TOKENS = 4u;
const PROXY_COMPONENTS = 256u;
const PROXY_BUCKETS = 160u;
const CANDIDATES = 6u;
const NONE = 0xffffffffu;

// The token's leading components, zero beyond.
var<workgroup> leading: array<i32, 64>;
// Keys of the nearest tokens, then of the cheapest prediction.
var<workgroup> keys: array<atomic<u32>, 5>;
var<workgroup> nearest: array<u32, 4>;
//!subgroups
// What predictions cost, [candidate][mode].
var<workgroup> prices: array<atomic<u32>, 30>;
//!end

// The least key of the workgroup's, of those that are not NONE. Every invocation calls it.
fn offer(i: u32, key: u32) {
//!subgroups
  let least = subgroupMin(key);
  if (subgroupElect() && least != NONE) {
    atomicMin(&keys[i], least);
  }
//!else
  if (key != NONE) {
    atomicMin(&keys[i], key);
  }
//!end
}

fn bucket_of(magnitude: u32) -> u32 {
  if (magnitude < 64u) {
    return magnitude;
  }
  let top = firstLeadingBit(magnitude);
  return min(PROXY_BUCKETS - 1u, 64u + 8u * (top - 6u) + ((magnitude >> (top - 3u)) & 7u));
}

// Finds the four earlier tokens most like token t, nearest first, of equals the earlier first: `nearest`, where their keys
// are not NONE.
fn find_similar(chunk: u32, t: u32, local: u32) {
  let row = (chunk * sizes.tokens + t) * sizes.stride;
  if (local < SIMILAR_COMPONENTS) {
    leading[local] = 0;
    if (local < sizes.components) {
      leading[local] = rows[row + local];
    }
  }
  if (local < 5u) {
    atomicStore(&keys[local], NONE);
  }
//!subgroups
  if (local < CANDIDATES * MODES) {
    atomicStore(&prices[local], 0u);
  }
//!end
  workgroupBarrier();
  // Neighbouring tokens are an invocation's, so that of equals those of the lower one come first.
  let each = (t + THREADS - 1u) / THREADS;
  let pairs = min(SIMILAR_COMPONENTS, sizes.stride) / 2u;
  var distances = vec4(NONE);
  var tokens = vec4(0u);
  for (var u = local * each; u < min(t, (local + 1u) * each); u++) {
    let other = ((chunk * sizes.tokens + u) * sizes.stride) >> 1u;
    var distance = 0u;
    for (var i = 0u; i < pairs; i++) {
      let apart = abs(vec2(leading[2u * i], leading[2u * i + 1u]) - 4 * halves(reconstruction[other + i]));
      distance += u32(apart.x + apart.y);
    }
    let nearer = vec4(distance) < distances;
    distances = select(distances, select(vec4(distance), vec4(distance, distances.xyz), vec4(false, nearer.xyz)), nearer);
    tokens = select(tokens, select(vec4(u), vec4(u, tokens.xyz), vec4(false, nearer.xyz)), nearer);
  }
  for (var round = 0u; round < SIMILAR_TOKENS; round++) {
    // Distances are below 2^24.
    let key = select((distances.x << 8u) | local, NONE, distances.x == NONE);
    offer(round, key);
    workgroupBarrier();
    if (key != NONE && atomicLoad(&keys[round]) == key) {
      nearest[round] = tokens.x;
      distances = vec4(distances.yzw, NONE);
      tokens = vec4(tokens.yzw, 0u);
    }
  }
  workgroupBarrier();
}

// Chooses reference and mode of token t among no reference, the previous token and the four most similar ones, by what
// the leading components are going to cost. All invocations get the word.
fn choose_prediction(chunk: u32, t: u32, local: u32) -> u32 {
  find_similar(chunk, t, local);
  // Reference of this invocation's candidate; 0xffff: none.
  let candidate = local >> 5u;
  var reference = 0xffffu;
  var present = candidate < CANDIDATES;
  if (candidate == 1u) {
    present = t > 0u;
    reference = t - 1u;
  } else if (present && candidate > 1u) {
    present = atomicLoad(&keys[candidate - 2u]) != NONE;
    reference = nearest[candidate - 2u];
  }
  let own = chunk * sizes.tokens;
  let lane = local & 31u;
  var sums = array<u32, 5>(0u, 0u, 0u, 0u, 0u);
  if (present) {
    for (var c = lane; c < min(PROXY_COMPONENTS, sizes.components); c += 32u) {
      let value = rows[(own + t) * sizes.stride + c];
      var other = 0;
      if (reference < t) {
        other = halves(reconstruction[((own + reference) * sizes.stride + c) >> 1u])[c & 1u];
      }
      for (var mode = 0u; mode < MODES; mode++) {
        let known = facts[(chunk * MODES + mode) * sizes.components + c];
        let p = (factor_of(known) * other + 16) >> 5u;
        sums[mode] += costs[base_of(known) * PROXY_BUCKETS + bucket_of(u32(abs(value - 4 * p)))];
      }
    }
//!subgroups
//!else
    for (var mode = 0u; mode < MODES; mode++) {
      moves[(candidate * MODES + mode) * 32u + lane] = sums[mode];
    }
//!end
  }
//!subgroups
  // Where a subgroup has lanes of one candidate alone, one of them adds for all.
  let alike = subgroupMin(candidate) == subgroupMax(candidate);
  let chosen_lane = subgroupElect();
  for (var mode = 0u; mode < MODES; mode++) {
    let all = subgroupAdd(sums[mode]);
    if (present && (chosen_lane || !alike)) {
      atomicAdd(&prices[candidate * MODES + mode], select(sums[mode], all, alike));
    }
  }
//!end
  workgroupBarrier();
  // Of equals the first: sums are below 2^26.
  var offered = NONE;
  if (local < CANDIDATES * MODES) {
    let summed = local / MODES;
    var there = summed == 0u || (summed == 1u && t > 0u);
    if (summed > 1u) {
      there = atomicLoad(&keys[summed - 2u]) != NONE;
    }
    if (there) {
//!subgroups
      let sum = atomicLoad(&prices[local]);
//!else
      var sum = 0u;
      for (var i = 0u; i < 32u; i++) {
        sum += moves[local * 32u + ((i + local) & 31u)];
      }
//!end
      offered = (sum << 5u) | local;
    }
  }
  offer(4u, offered);
  workgroupBarrier();
  let best = atomicLoad(&keys[4]) & 31u;
  var chosen = 0xffffu;
  if (best / MODES == 1u) {
    chosen = t - 1u;
  } else if (best / MODES > 1u) {
    chosen = nearest[best / MODES - 2u];
  }
  return chosen | ((best % MODES) << 16u) | (1u << 24u);
}
