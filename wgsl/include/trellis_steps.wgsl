// Steps of the trellis's eight states, and matrices of what their ends cost from each of their beginnings.

const STATES = 8u;
// Cost of a state that no path has reached: above all real costs (4096 components of at most 120,000), and twice as much
// is still within 31 bits.
const UNREACHED = 0x38000000;

// Costs of the eight states.
struct Costs {
  low: vec4<i32>,
  high: vec4<i32>,
}

// [segment][beginning][end], 32 segments, then those of four segments joined.
var<workgroup> matrices: array<Costs, 320>;

// Costs after a component, and where the second predecessor of a state was cheaper than the first.
struct Step {
  costs: Costs,
  low: vec4<bool>,
  high: vec4<bool>,
}

fn first_predecessors(c: Costs) -> vec4<i32> {
  return vec4(c.low.x, c.high.x, c.low.y, c.high.y);
}

fn second_predecessors(c: Costs) -> vec4<i32> {
  return vec4(c.low.z, c.high.z, c.low.w, c.high.w);
}

fn advance(c: Costs, branch: vec4<i32>) -> Step {
  let first = first_predecessors(c);
  let second = second_predecessors(c);
  let a = Costs(first + branch.xzyw, first + branch.ywxz);
  let b = Costs(second + branch.ywxz, second + branch.xzyw);
  return Step(Costs(min(a.low, b.low), min(a.high, b.high)), b.low < a.low, b.high < a.high);
}

// Costs of the ends of what a matrix stands for.
fn through(c: Costs, matrix: u32) -> Costs {
  var ends = Costs(vec4(0x7fffffff), vec4(0x7fffffff));
  for (var i = 0u; i < STATES; i++) {
    let row = matrices[matrix * STATES + i];
    let cost = select(c.low[i & 3u], c.high[i & 3u], i >= 4u);
    ends = Costs(min(ends.low, row.low + cost), min(ends.high, row.high + cost));
  }
  return ends;
}

// Costs of beginning in a state.
fn beginning_in(state: u32) -> Costs {
  let at = vec4(0u, 1u, 2u, 3u);
  return Costs(
    select(vec4(UNREACHED), vec4(0), at == vec4(state)),
    select(vec4(UNREACHED), vec4(0), at + vec4(4u) == vec4(state)),
  );
}

// Where a state came from, 2 · state + parity, by state and decision: a nibble each.
fn origin(state: u32, decision: u32) -> u32 {
  return (select(0xeb63d850u, 0xfa72c941u, state >= 4u) >> (((state & 3u) << 3u) | (decision << 2u))) & 15u;
}
