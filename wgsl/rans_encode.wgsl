// Encodes rANS streams, a workgroup of 32 a stream, from the last symbol to the first. Words go into a ring of workgroup
// memory, of which every 64 are written to the stream's slot, downwards from its end, when a barrier has passed.
//!include include/lanes.wgsl

struct Args {
  streams: u32,
  first: u32,
  rows: u32,
  tokens: u32,
  bits: u32,
  // Words of a slot.
  slotWords: u32,
  // Bytes before the first symbol.
  skip: u32,
  // As in rans_decode.wgsl.
  each: u32,
  even: u32,
  odd: u32,
  unused0: u32,
  unused1: u32,
};

@group(0) @binding(0) var<storage, read> symbols: array<u32>;
// By symbol, [tables][256]: frequency, and the first slot above 16 bits.
@group(0) @binding(1) var<storage, read> tables: array<u32>;
@group(0) @binding(2) var<storage, read_write> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> lengths: array<u32>;
// As in rans_decode.wgsl.
@group(0) @binding(4) var<storage, read> contexts: array<u32>;
@group(0) @binding(5) var<storage, read> kinds: array<u32>;
// Trellis, for each stream [words][32]: states of the lane's tokens, 4 bits each, then which of its symbols are coded in a
// state that uses the second quantizer, a bit each.
@group(0) @binding(6) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(5) var<uniform> plainArgs: Args;
@group(0) @binding(7) var<uniform> trellisArgs: Args;

var<workgroup> masks: array<atomic<u32>, 3>;
var<workgroup> ring: array<u32, 256>;
var<workgroup> absent: atomic<u32>;

struct Stream {
  x: u32,
  lane: u32,
  turn: u32,
  // Words coded, and blocks of 64 of them written.
  words: u32,
  written: u32,
  // The slot's end.
  end: u32,
  // Bytes before the stream's symbols.
  source: u32,
};
var<private> s: Stream;

fn begin(args: Args, own: u32, lane: u32) {
  s.x = 0x10000u;
  s.lane = lane;
  s.turn = 0u;
  s.words = 0u;
  s.written = 0u;
  s.end = (own + 1u) * args.slotWords;
  s.source = args.skip + own * args.rows * args.tokens;
}

fn symbolAt(args: Args, row: u32, token: u32) -> u32 {
  let at = s.source + row * args.tokens + token;
  return (symbols[at / 4u] >> (at % 4u * 8u)) & 255u;
}

// Words 2 i and 2 i + 1 of the ring's block are word i of the slot from its end.
fn flush(i: u32) {
  slots[s.end - 1u - i] = ring[(2u * i + 1u) & 255u] | (ring[(2u * i) & 255u] << 16u);
}

// One step of all lanes. Every invocation calls it.
fn advance(args: Args, whole: bool, table: u32, symbol: u32, live: bool) {
  let entry = tables[table * 256u + symbol];
  let f = entry & 0xffffu;
  if (live && f == 0u) {
    atomicOr(&absent, 1u);
  }
  let gives = live && (s.x >> (32u - args.bits)) >= f;
  let next = select(s.turn + 1u, 0u, s.turn == 2u);
  var mask = 0u;
  if (whole) {
//!subgroups
    mask = subgroupOr(select(0u, 1u << s.lane, gives));
//!end
  } else {
    if (gives) {
      atomicOr(&masks[s.turn], 1u << s.lane);
    }
    if (s.lane == 0u) {
      atomicStore(&masks[next], 0u);
    }
  }
  workgroupBarrier();
  // The words of the step before are there now.
  if (s.words / 64u > s.written) {
    flush(s.written * 32u + s.lane);
    s.written++;
  }
  if (!whole) {
    mask = atomicLoad(&masks[s.turn]);
  }
  if (gives) {
    // Words of lanes above lie behind this one.
    ring[(s.words + countOneBits((mask >> s.lane) >> 1u)) & 255u] = s.x & 0xffffu;
    s.x >>= 16u;
  }
  s.words += countOneBits(mask);
  if (live) {
    let quotient = s.x / max(f, 1u);
    s.x += (entry >> 16u) + quotient * ((1u << args.bits) - f);
  }
  s.turn = next;
}

fn finish(args: Args, stream: u32) {
  let lanes = select(min(32u, args.tokens), 0u, args.rows == 0u);
  let words = s.words + 2u * lanes;
  workgroupBarrier();
  if (s.lane < lanes) {
    ring[(words - 1u - 2u * s.lane) & 255u] = s.x & 0xffffu;
    ring[(words - 2u - 2u * s.lane) & 255u] = s.x >> 16u;
  }
  if (s.lane == 0u && words % 2u == 1u) {
    ring[words & 255u] = 0u;
  }
  workgroupBarrier();
  for (var i = s.written * 32u + s.lane; i < (words + 1u) / 2u; i += 32u) {
    flush(i);
  }
  if (s.lane == 0u) {
    lengths[stream] = select(2u * words, 0xffffffffu, atomicLoad(&absent) != 0u);
  }
}

@compute @workgroup_size(32)
fn plain(
  @builtin(local_invocation_index) lane: u32,
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
//!subgroups
  @builtin(subgroup_invocation_id) lane_id: u32,
//!end
) {
//!subgroups
  let whole = one_subgroup(lane, lane_id);
//!else
  let whole = one_subgroup();
//!end
  let own = id.y * groups.x + id.x;
  if (own >= plainArgs.streams) {
    return;
  }
  let stream = plainArgs.first + own;
  begin(plainArgs, own, lane);
  let tokens = plainArgs.tokens;
  for (var row = plainArgs.rows; row > 0u; row--) {
    let table = contexts[stream * plainArgs.each * plainArgs.rows + row - 1u];
    for (var group = (tokens + 31u) / 32u; group > 0u; group--) {
      let t = (group - 1u) * 32u + lane;
      advance(plainArgs, whole, table, symbolAt(plainArgs, row - 1u, min(t, tokens - 1u)), t < tokens);
    }
  }
  finish(plainArgs, stream);
}

@compute @workgroup_size(32)
fn trellis(
  @builtin(local_invocation_index) lane: u32,
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
//!subgroups
  @builtin(subgroup_invocation_id) lane_id: u32,
//!end
) {
//!subgroups
  let whole = one_subgroup(lane, lane_id);
//!else
  let whole = one_subgroup();
//!end
  let own = id.y * groups.x + id.x;
  if (own >= trellisArgs.streams) {
    return;
  }
  let stream = trellisArgs.first + own;
  begin(trellisArgs, own, lane);
  let rows = trellisArgs.rows;
  let tokens = trellisArgs.tokens;
  let entry = stream * trellisArgs.each;
  let steps = (tokens + 31u) / 32u;
  let stateWords = (steps + 7u) / 8u;
  let kept = own * (stateWords + (rows * steps + 31u) / 32u) * 32u + lane;
  let second = kept + stateWords * 32u;
  // The states follow from the symbols from first to last, so they are walked before.
  var bits = 0u;
  for (var row = 0u; row < rows; row++) {
    var now = 0u;
    for (var group = 0u; group < steps; group++) {
      let shift = group % 8u * 4u;
      let word = kept + group / 8u * 32u;
      if (shift == 0u) {
        now = 0u;
        if (row > 0u) {
          now = scratch[word];
        }
      }
      let state = (now >> shift) & 7u;
      let n = row * steps + group;
      bits |= (state >> 2u) << (n % 32u);
      if (n % 32u == 31u || n + 1u == rows * steps) {
        scratch[second + n / 32u * 32u] = bits;
        bits = 0u;
      }
      let symbol = symbolAt(trellisArgs, row, min(group * 32u + lane, tokens - 1u));
      let list = select(trellisArgs.even, trellisArgs.odd, ((symbol + 1u) & 2u) != 0u);
      now = (now & ~(15u << shift)) | (((list >> (4u * state)) & 7u) << shift);
      if (shift == 28u || group + 1u == steps) {
        scratch[word] = now;
      }
    }
  }
  for (var row = rows; row > 0u; row--) {
    for (var group = steps; group > 0u; group--) {
      let n = (row - 1u) * steps + group - 1u;
      if (n % 32u == 31u || n + 1u == rows * steps) {
        bits = scratch[second + n / 32u * 32u];
      }
      let t = (group - 1u) * 32u + lane;
      let inside = min(t, tokens - 1u);
      let place = entry * tokens + inside;
      let kind = (kinds[place / 4u] >> (place % 4u * 8u)) & 15u;
      let class64 = (contexts[4u * (entry * rows + row - 1u) + kind / 4u] >> (kind % 4u * 8u)) & 255u;
      let table = 2u * class64 + ((bits >> (n % 32u)) & 1u);
      advance(trellisArgs, whole, table, symbolAt(trellisArgs, row - 1u, inside), t < tokens);
    }
  }
  finish(trellisArgs, stream);
}
