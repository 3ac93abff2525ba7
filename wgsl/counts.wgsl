// Counts of symbols by row.
struct Args {
  // Counts to clear; items of the histogram.
  count: u32,
  // Tokens of each row that are counted by this call.
  tokens: u32,
  // Parts of them, of 65,536 symbols.
  parts: u32,
  alphabet: u32,
  // The first row.
  first: u32,
  // Bytes before the first symbol.
  skip: u32,
  unused0: u32,
  unused1: u32,
};

@group(0) @binding(0) var<storage, read_write> counts: array<atomic<u32>>;
@group(0) @binding(1) var<uniform> clearArgs: Args;
@group(0) @binding(1) var<storage, read> symbols: array<u32>;
@group(0) @binding(2) var<uniform> args: Args;

var<workgroup> seen: array<atomic<u32>, 256>;

@compute @workgroup_size(256)
fn clear(
  @builtin(local_invocation_index) id: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let i = (group.y * groups.x + group.x) * 256u + id;
  if (i < clearArgs.count) {
    atomicStore(&counts[i], 0u);
  }
}

@compute @workgroup_size(256)
fn histogram(
  @builtin(local_invocation_index) id: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let item = group.y * groups.x + group.x;
  if (item >= args.count) {
    return;
  }
  let row = item / args.parts;
  let first = item % args.parts * 65536u;
  let begin = args.skip + row * args.tokens + first;
  let end = begin + min(65536u, args.tokens - first);
  for (var word = begin / 4u + id; word * 4u < end; word += 256u) {
    let four = symbols[word];
    for (var k = 0u; k < 4u; k++) {
      let at = word * 4u + k;
      if (at >= begin && at < end) {
        atomicAdd(&seen[(four >> (8u * k)) & 255u], 1u);
      }
    }
  }
  workgroupBarrier();
  let sum = atomicLoad(&seen[id]);
  if (id < args.alphabet && sum != 0u) {
    atomicAdd(&counts[(args.first + row) * args.alphabet + id], sum);
  }
}
