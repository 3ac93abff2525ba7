// Decodes rANS streams, a workgroup of 32 a stream: invocation l is lane l of the stream. Which lanes take a word in a step
// is gathered in a word of workgroup memory; there are three, so that one barrier a step is enough: one in use, one that
// some invocations still read, one that is cleared for the next step. Where one subgroup has all 32, the word and the
// symbols go from lane to lane and nothing waits.
//!include include/lanes.wgsl

struct Args {
  streams: u32,
  // The first stream of this call among those of the batch.
  first: u32,
  rows: u32,
  tokens: u32,
  bits: u32,
  // Bytes from row to row of `symbols`, a multiple of 4.
  stride: u32,
  // Words before the first symbol.
  skip: u32,
  // 1 where each stream has contexts of its own, 0 where all share them.
  each: u32,
  // Next states of the trellis after even and odd levels, 4 bits each by state.
  even: u32,
  odd: u32,
  // 1 where the status words hold the streams' lengths, 0 where streams end where the next one begins.
  measured: u32,
  unused: u32,
};

@group(0) @binding(0) var<storage, read> bytes: array<u32>;
@group(0) @binding(1) var<storage, read> begins: array<u32>;
// By slot: symbol (8 bits), slot less the symbol's first (12 bits), frequency less one (12 bits).
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(4) var<storage, read_write> status: array<u32>;
// Plain: the table of each row. Trellis: 16 bytes of classes for each row.
@group(0) @binding(5) var<storage, read> contexts: array<u32>;
// Trellis: a byte for each token.
@group(0) @binding(6) var<storage, read> kinds: array<u32>;
// Trellis: states of a lane's tokens, 4 bits each, [streams][groups of 8 · 32 tokens][32].
@group(0) @binding(7) var<storage, read_write> states: array<u32>;
@group(0) @binding(5) var<uniform> singleArgs: Args;
@group(0) @binding(6) var<uniform> plainArgs: Args;
@group(0) @binding(8) var<uniform> trellisArgs: Args;

var<workgroup> masks: array<atomic<u32>, 3>;
var<workgroup> taken: array<u32, 64>;
// Bit 0: a state was below 2^16 at the start; bit 1: one is not 2^16 at the end.
var<workgroup> wrong: atomic<u32>;
// One table of 2^11 slots.
var<workgroup> single: array<u32, 2048>;

// The stream in hand.
struct Stream {
  // 16-bit words from the start of `bytes`.
  at: u32,
  end: u32,
  bytes: u32,
  x: u32,
  lane: u32,
  // Which of the masks is in use, and the parity of the step.
  turn: u32,
  parity: u32,
  // Words before the present row's symbols.
  row: u32,
};
var<private> s: Stream;

fn halfAt(i: u32) -> u32 {
  if (i >= s.end) {
    return 0u;
  }
  return (bytes[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu;
}

fn begin(args: Args, stream: u32, lane: u32) {
  s.lane = lane;
  s.at = begins[stream] >> 1u;
  s.bytes = begins[stream + 1u] - begins[stream];
  if (args.measured == 1u) {
    s.bytes = status[stream];
  }
  // One that could not be encoded has no bytes; ranges outside of the buffer have none either.
  if (begins[stream] > 4u * arrayLength(&bytes) || s.bytes > 4u * arrayLength(&bytes) - begins[stream]) {
    s.bytes = 0u;
  }
  s.end = s.at + s.bytes / 2u;
  s.x = 0x10000u;
  if (args.rows > 0u && lane < args.tokens) {
    s.x = halfAt(s.at + 2u * lane) | (halfAt(s.at + 2u * lane + 1u) << 16u);
  }
  if (s.x < 0x10000u) {
    atomicOr(&wrong, 1u);
  }
  if (args.rows > 0u) {
    s.at += 2u * min(32u, args.tokens);
  }
}

fn entryOf(args: Args, table: u32) -> u32 {
  return tables[(table << args.bits) + (s.x & ((1u << args.bits) - 1u))];
}

// The lane's next state, where the lanes of `mask` take a word.
fn take(needs: bool, live: bool, y: u32, mask: u32) {
  if (needs) {
    s.x = (y << 16u) | halfAt(s.at + countOneBits(mask & ((1u << s.lane) - 1u)));
  } else if (live) {
    s.x = y;
  }
  s.at += countOneBits(mask);
}

// One step of all lanes, on tokens from `first` on, by the entries of their states. Every invocation calls it. Returns the
// lane's symbol.
fn advance(args: Args, whole: bool, entry: u32, first: u32) -> u32 {
  let live = first + s.lane < args.tokens;
  let quotient = s.x >> args.bits;
  let y = quotient * (entry >> 20u) + quotient + ((entry >> 8u) & 0xfffu);
  let needs = live && y < 0x10000u;
  let symbol = entry & 0xffu;
//!subgroups
  if (whole) {
    let all = subgroupOr(select(0u, 1u << s.lane, needs));
    var four = select(0u, symbol << (8u * (s.lane & 3u)), live);
    four |= subgroupShuffle(four, neighbours.x);
    four |= subgroupShuffle(four, neighbours.y);
    take(needs, live, y, all);
    if ((s.lane & 3u) == 0u && live) {
      symbols[s.row + (first + s.lane) / 4u] = four;
    }
    return symbol;
  }
//!end
  if (needs) {
    atomicOr(&masks[s.turn], 1u << s.lane);
  }
  let next = select(s.turn + 1u, 0u, s.turn == 2u);
  if (s.lane == 0u) {
    atomicStore(&masks[next], 0u);
  }
  taken[s.parity + s.lane] = select(0u, symbol, live);
  workgroupBarrier();
  take(needs, live, y, atomicLoad(&masks[s.turn]));
  if (s.lane < 8u && first + 4u * s.lane < args.tokens) {
    let quad = s.parity + 4u * s.lane;
    symbols[s.row + first / 4u + s.lane] =
      taken[quad] | (taken[quad + 1u] << 8u) | (taken[quad + 2u] << 16u) | (taken[quad + 3u] << 24u);
  }
  s.turn = next;
  s.parity ^= 32u;
  return symbol;
}

fn finish(args: Args, stream: u32) {
  if (s.x != 0x10000u) {
    atomicOr(&wrong, 2u);
  }
  workgroupBarrier();
  if (s.lane == 0u) {
    let lanes = select(min(32u, args.tokens), 0u, args.rows == 0u);
    let bad = atomicLoad(&wrong);
    var code = 0u;
    if (s.bytes < 4u * lanes) {
      code = 2u;
    } else if (((s.bytes | begins[stream]) & 1u) == 1u) {
      code = 3u;
    } else if ((bad & 1u) == 1u) {
      code = 1u;
    } else if (s.at > s.end) {
      code = 2u;
    } else if (s.at < s.end || bad != 0u) {
      code = 3u;
    }
    status[stream] = code;
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
  begin(plainArgs, stream, lane);
  for (var row = 0u; row < plainArgs.rows; row++) {
    s.row = plainArgs.skip + (own * plainArgs.rows + row) * (plainArgs.stride / 4u);
    let table = contexts[stream * plainArgs.each * plainArgs.rows + row];
    for (var first = 0u; first < plainArgs.tokens; first += 128u) {
      advance(plainArgs, whole, entryOf(plainArgs, table), first);
      if (first + 32u < plainArgs.tokens) {
        advance(plainArgs, whole, entryOf(plainArgs, table), first + 32u);
      }
      if (first + 64u < plainArgs.tokens) {
        advance(plainArgs, whole, entryOf(plainArgs, table), first + 64u);
      }
      if (first + 96u < plainArgs.tokens) {
        advance(plainArgs, whole, entryOf(plainArgs, table), first + 96u);
      }
    }
  }
  finish(plainArgs, stream);
}

// Plain contexts with a single table of 2^11 slots, which lies in workgroup memory: a workgroup decodes one stream after
// the other.
@compute @workgroup_size(32)
fn plainSingle(
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
  for (var i = lane; i < 2048u; i += 32u) {
    single[i] = tables[i];
  }
  workgroupBarrier();
  for (var own = id.x; own < singleArgs.streams; own += groups.x) {
    let stream = singleArgs.first + own;
    begin(singleArgs, stream, lane);
    for (var row = 0u; row < singleArgs.rows; row++) {
      s.row = singleArgs.skip + (own * singleArgs.rows + row) * (singleArgs.stride / 4u);
      // Four steps a turn: runtimes guard turns, which costs as much as a part of a step.
      for (var first = 0u; first < singleArgs.tokens; first += 128u) {
        advance(singleArgs, whole, single[s.x & 2047u], first);
        if (first + 32u < singleArgs.tokens) {
          advance(singleArgs, whole, single[s.x & 2047u], first + 32u);
        }
        if (first + 64u < singleArgs.tokens) {
          advance(singleArgs, whole, single[s.x & 2047u], first + 64u);
        }
        if (first + 96u < singleArgs.tokens) {
          advance(singleArgs, whole, single[s.x & 2047u], first + 96u);
        }
      }
    }
    finish(singleArgs, stream);
    workgroupBarrier();
    if (lane == 0u) {
      atomicStore(&wrong, 0u);
    }
    workgroupBarrier();
  }
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
  begin(trellisArgs, stream, lane);
  let rows = trellisArgs.rows;
  let entry = stream * trellisArgs.each;
  // Eight groups of 32 tokens share a word of a lane's states.
  let kept = own * ((trellisArgs.tokens + 255u) / 256u) * 32u + lane;
  for (var row = 0u; row < rows; row++) {
    s.row = trellisArgs.skip + (own * rows + row) * (trellisArgs.stride / 4u);
    var now = 0u;
    for (var first = 0u; first < trellisArgs.tokens; first += 32u) {
      let shift = (first / 32u % 8u) * 4u;
      let word = kept + first / 256u * 32u;
      if (shift == 0u) {
        now = 0u;
        if (row > 0u) {
          now = states[word];
        }
      }
      let t = entry * trellisArgs.tokens + min(first + lane, trellisArgs.tokens - 1u);
      let kind = (kinds[t / 4u] >> (t % 4u * 8u)) & 15u;
      let class64 = (contexts[4u * (entry * rows + row) + kind / 4u] >> (kind % 4u * 8u)) & 255u;
      let state = (now >> shift) & 7u;
      let symbol = advance(trellisArgs, whole, entryOf(trellisArgs, 2u * class64 + (state >> 2u)), first);
      let list = select(trellisArgs.even, trellisArgs.odd, ((symbol + 1u) & 2u) != 0u);
      now = (now & ~(15u << shift)) | (((list >> (4u * state)) & 7u) << shift);
      if (shift == 28u || first + 32u >= trellisArgs.tokens) {
        states[word] = now;
      }
    }
  }
  finish(trellisArgs, stream);
}
