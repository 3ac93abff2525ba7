// Coefficients → levels: prediction from similar tokens and the cheapest path through the trellis, a workgroup a chunk,
// tokens [begin, end) one after the other. encodeTrellisReference defines every integer.
//
// The trellis is walked in 32 segments of a token at once: (1) from each of the eight states a segment may begin in, what
// its eight ends cost (min-plus matrices); (2) what the segments' beginnings cost; (3) all segments again from those, now
// with decisions, and where each end began; (4) back from the true end of each. Integer sums and minima do not depend on
// this order, and the decisions of (3) are those of a walk from the token's beginning, ties too.
//!include include/trellis.wgsl
//!include include/trellis_levels.wgsl
//!include include/trellis_rates.wgsl
//!include include/trellis_costs.wgsl
//!include include/trellis_steps.wgsl
//!include include/trellis_choice.wgsl

// Whether references and modes are chosen first; otherwise the words of the tokens have them.
override CHOOSE: bool = false;

@group(0) @binding(1) var<storage, read> facts: array<u32>;
// Sixteenths of the step, [chunks][tokens][stride].
@group(0) @binding(2) var<storage, read> rows: array<i32>;
// 2 · level + quantizer.
@group(0) @binding(3) var<storage, read_write> levels: array<u32>;
@group(0) @binding(4) var<storage, read_write> reconstruction: array<u32>;
@group(0) @binding(5) var<storage, read_write> words: array<u32>;
// Of the token at work, [chunks][stride]: what the best even and odd level of either quantizer cost.
@group(0) @binding(6) var<storage, read_write> branches: array<vec4<i32>>;
// What residuals are going to cost, by class and bucket of their magnitude.
@group(0) @binding(7) var<storage, read> costs: array<u32>;
@group(0) @binding(8) var<uniform> sizes: Sizes;

const THREADS = 256u;
const SEGMENTS = 32u;
// Segments that (2) joins first.
const JOINED = 4u;

// By segment.
var<workgroup> beginnings: array<Costs, 32>;
// Where each end began, a nibble each.
var<workgroup> maps: array<u32, 32>;
var<workgroup> last_state: u32;
// A byte a component: decisions, a bit each (the second, higher predecessor is cheaper), then the move of the path. While
// a token's prediction is chosen without subgroups, sums of [candidate][mode][32 lanes].
var<workgroup> moves: array<u32, 1024>;

// Predictions of components 2 · pair and the next of token t. The padding of a row is 0.
fn predicted(chunk: u32, t: u32, word: u32, pair: u32) -> vec2<i32> {
  let reference = word & 0xffffu;
  if (reference >= t) {
    return vec2(0);
  }
  let other = halves(reconstruction[(((chunk * sizes.tokens + reference) * sizes.stride) >> 1u) + pair]);
  let at = fact_at(sizes, chunk, word, 2u * pair);
  let factor = vec2(factor_of(facts[at]), factor_of(facts[at + 1u]));
  return (factor * other + vec2(16)) >> vec2(5u);
}

// Quantizes token t by its word and facts.
fn quantize_token(chunk: u32, t: u32, word: u32, local: u32) {
  let components = sizes.components;
  let row = (chunk * sizes.tokens + t) * sizes.stride;
  let own = chunk * sizes.stride;
  for (var pair = local; 2u * pair < components; pair += THREADS) {
    let p = predicted(chunk, t, word, pair);
    for (var j = 0u; j < 2u; j++) {
      let c = 2u * pair + j;
      if (c < components) {
        let residual = rows[row + c] - 4 * p[j];
        let table = 2u * class_of(facts[fact_at(sizes, chunk, word, c)], word >> 24u);
        branches[own + c] = vec4(
          even_level(table, residual).y,
          level_cost(table, residual, odd_level(table, residual)),
          even_level(table + 1u, residual).y,
          level_cost(table + 1u, residual, odd_level(table + 1u, residual)),
        );
      }
    }
  }
  storageBarrier();

  // Whole words of `moves` in a segment. One behind the components leaves costs as they are.
  let length = ((components + 4u * SEGMENTS - 1u) / (4u * SEGMENTS)) * 4u;
  {
    let begin = min(components, (local / STATES) * length);
    let end = min(components, begin + length);
    var c = beginning_in(local % STATES);
    for (var i = begin; i < end; i++) {
      c = advance(c, branches[own + i]).costs;
    }
    matrices[local] = c;
  }
  workgroupBarrier();

  if (local < THREADS / JOINED) {
    let first = (local / STATES) * JOINED;
    var c = matrices[first * STATES + local % STATES];
    for (var k = 1u; k < JOINED; k++) {
      c = through(c, first + k);
    }
    matrices[THREADS + local] = c;
  }
  workgroupBarrier();

  if (local < SEGMENTS / JOINED) {
    var c = beginning_in(0u);
    for (var i = 0u; i < local; i++) {
      c = through(c, SEGMENTS + i);
    }
    for (var k = 0u; k < JOINED; k++) {
      beginnings[local * JOINED + k] = c;
      c = through(c, local * JOINED + k);
    }
    if (local == SEGMENTS / JOINED - 1u) {
      // Of equally cheap ends the lowest state.
      let both = min(c.low, c.high);
      let least = min(min(both.x, both.y), min(both.z, both.w));
      let ends = select(vec4(8u), vec4(0u, 1u, 2u, 3u), c.low == vec4(least));
      let high_ends = select(vec4(8u), vec4(4u, 5u, 6u, 7u), c.high == vec4(least));
      let lowest = min(ends, high_ends);
      last_state = min(min(lowest.x, lowest.y), min(lowest.z, lowest.w));
    }
  }
  workgroupBarrier();

  let begin = min(components, local * length);
  let end = min(components, begin + length);
  if (local < SEGMENTS) {
    var c = beginnings[local];
    var began = Costs(vec4(0, 1, 2, 3), vec4(4, 5, 6, 7));
    var four = 0u;
    for (var i = begin; i < end; i++) {
      let step = advance(c, branches[own + i]);
      c = step.costs;
      let first = first_predecessors(began);
      let second = second_predecessors(began);
      began = Costs(select(first, second, step.low), select(first, second, step.high));
      let taken = select(vec4(0u), vec4(1u, 2u, 4u, 8u), step.low) | select(vec4(0u), vec4(16u, 32u, 64u, 128u), step.high);
      four |= (taken.x | taken.y | taken.z | taken.w) << (8u * (i & 3u));
      if ((i & 3u) == 3u || i + 1u == end) {
        moves[i >> 2u] = four;
        four = 0u;
      }
    }
    let low = vec4<u32>(began.low) << vec4(0u, 4u, 8u, 12u);
    let high = vec4<u32>(began.high) << vec4(16u, 20u, 24u, 28u);
    let all = low | high;
    maps[local] = all.x | all.y | all.z | all.w;
  }
  workgroupBarrier();

  if (local < SEGMENTS) {
    var state = last_state;
    for (var g = SEGMENTS - 1u; g > local; g--) {
      state = (maps[g] >> (4u * state)) & 7u;
    }
    var four = 0u;
    for (var i = end; i > begin; i--) {
      let at = i - 1u;
      let shift = 8u * (at & 3u);
      if (i == end || (at & 3u) == 3u) {
        four = moves[at >> 2u];
      }
      let came = origin(state, (four >> (shift + state)) & 1u);
      four = (four & ~(255u << shift)) | (came << shift);
      state = came >> 1u;
      if ((at & 3u) == 0u) {
        moves[at >> 2u] = four;
      }
    }
  }
  workgroupBarrier();

  for (var pair = local; 2u * pair < sizes.stride; pair += THREADS) {
    var coded = vec2(0);
    var quarters = vec2(0);
    if (2u * pair < components) {
      let p = predicted(chunk, t, word, pair);
      for (var j = 0u; j < 2u; j++) {
        let c = 2u * pair + j;
        if (c < components) {
          let residual = rows[row + c] - 4 * p[j];
          let came = (moves[c >> 2u] >> (8u * (c & 3u))) & 15u;
          let quantizer = came >> 3u;
          let table = 2u * class_of(facts[fact_at(sizes, chunk, word, c)], word >> 24u) + quantizer;
          var level = odd_level(table, residual);
          if ((came & 1u) == 0u) {
            level = even_level(table, residual).x;
          }
          coded[j] = 2 * level + i32(quantizer);
          quarters[j] = p[j] + 4 * reconstruct(level, quantizer);
        }
      }
    }
    levels[(row >> 1u) + pair] = joined(coded);
    reconstruction[(row >> 1u) + pair] = joined(quarters);
  }
  storageBarrier();
}

@compute @workgroup_size(256)
fn encode(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let chunk = group.x;
  for (var t = sizes.begin; t < sizes.end; t++) {
    var word: u32;
    if (CHOOSE) {
      word = choose_prediction(chunk, t, local);
      if (local == 0u) {
        words[chunk * sizes.tokens + t] = word;
      }
    } else {
      word = words[chunk * sizes.tokens + t];
    }
    quantize_token(chunk, t, word, local);
  }
}
