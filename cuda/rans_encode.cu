// Encodes rANS streams, a warp a stream, from the last symbol to the first: words go downwards into a slot for each stream,
// from the slot's end, and the states in front of them. Then lengths are summed and the streams are moved together.
#include "common.cuh"

constexpr u32 ABSENT = 0xffffffffu;

// Where the trellis states of a lane's tokens are: nowhere (plain contexts), in a register (up to 256 tokens), in memory.
enum { NONE, REGISTER, MEMORY };

struct Batch {
  const u8* symbols;
  u32 streams, rows, tokens, bits;
  // Entries by symbol, [tables][256]: the reciprocal's factor (0: no frequency), then 2^bits less the frequency (12 bits),
  // the symbol's first slot (12 bits), the reciprocal's shift (5 bits), 0, 0, what to add to the state before (1 bit).
  const uint2* tables;
  // How many entries go to shared memory, all or 0.
  u32 tableEntries;
  // As in rans_decode.cu.
  const u16* tableOf;
  const u8* classes;
  const u8* kinds;
  u32 even, odd;
  u32 each;
  u8* states;
  // [streams][rows][groups of 32 tokens]: which tokens are in a state that uses the second quantizer.
  u32* second;
  u8* slots;
  u32 slotBytes;
  u32* lengths;
};

// Contexts of a stream.
struct Contexts {
  const u16* tableOf;
  const u8* classes;
  const u8* kinds;
  u32* second;
};

// Symbols of whole groups of 128 tokens, a word a lane, read as many groups ahead as memory takes to answer.
constexpr u32 AHEAD = 4;
struct Pieces {
  const u32* next;
  // The last group that there is, in the direction of reading.
  const u32* last;
  u32 words[AHEAD];
};

template <int direction>
__device__ __forceinline__ u32 loadPiece(Pieces& pieces) {
  const u32 word = __ldg(pieces.next);
  if (pieces.next != pieces.last) pieces.next += direction * 32;
  return word;
}

template <int direction>
__device__ __forceinline__ void openPieces(Pieces& pieces, const Batch& b, const u8* symbols, u32 lane) {
  const u32* first = (const u32*)symbols + lane;
  const u32* end = first + (b.rows * b.tokens / 4 - 32);
  pieces.next = direction > 0 ? first : end;
  pieces.last = direction > 0 ? end : first;
#pragma unroll
  for (u32 i = 0; i < AHEAD; i++) pieces.words[i] = loadPiece<direction>(pieces);
}

// The next group.
template <int direction>
__device__ __forceinline__ u32 takePiece(Pieces& pieces) {
  const u32 word = pieces.words[0];
#pragma unroll
  for (u32 i = 1; i < AHEAD; i++) pieces.words[i - 1] = pieces.words[i];
  pieces.words[AHEAD - 1] = loadPiece<direction>(pieces);
  return word;
}

// The lane's symbol of the 32 tokens from `first` on, first below 128.
__device__ __forceinline__ u32 symbolIn(u32 piece, u32 first, u32 lane) {
  return __byte_perm(__shfl_sync(ALL_LANES, piece, first / 4 + lane / 4), 0, 0x4440 | (lane & 3));
}

// The states of the trellis follow from the symbols from first to last, so they are walked before.
__device__ __forceinline__ void walkWhole(const Batch& b, const Contexts& c, const u8* symbols, u32 lane) {
  const u32 last = 4 * (b.tokens / 32 - 1), even = b.even, odd = b.odd;
  u32 trellis = 0;
  u32* second = c.second;
  Pieces pieces;
  openPieces<1>(pieces, b, symbols, lane);
  for (u32 left = b.rows * b.tokens; left > 0; left -= 128, second += 4) {
    const u32 piece = takePiece<1>(pieces);
    u32 masks = 0;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      const u32 state = trellis & 7, mask = __ballot_sync(ALL_LANES, state >> 2);
      if (lane == i) masks = mask;
      const u32 moved = ((symbolIn(piece, 32 * i, lane) + 1) & 2 ? odd : even) >> 4 * state & 7;
      trellis = trellis >> 4 | moved << last;
    }
    if (lane < 4) second[lane] = masks;
  }
  __syncwarp();
}

template <int states>
__device__ __forceinline__ void walkTrellis(const Batch& b, const Contexts& c, const u8* symbols, u32 lane, u32 warp) {
  const u32 last = 4 * ((b.tokens + 31) / 32 - 1);
  u32 trellis = 0;
  u8* memory = b.states + (u64)warp * b.tokens;
  if (states == MEMORY) {
    for (u32 t = lane; t < b.tokens; t += 32) memory[t] = 0;
  }
  u32* second = c.second;
  for (u32 row = 0; row < b.rows; row++, symbols += b.tokens) {
    for (u32 first = 0; first < b.tokens; first += 32, second++) {
      const u32 t = first + lane;
      const u32 symbol = t < b.tokens ? symbols[t] : 0;
      const u32 state = states == REGISTER ? trellis & 7 : t < b.tokens ? memory[t] : 0;
      const u32 mask = __ballot_sync(ALL_LANES, state >> 2);
      if (lane == 0) *second = mask;
      const u32 moved = ((symbol + 1) & 2 ? b.odd : b.even) >> 4 * state & 7;
      if (states == REGISTER) trellis = trellis >> 4 | moved << last;
      else if (t < b.tokens) memory[t] = (u8)moved;
    }
  }
  __syncwarp();
}

// One step of all lanes, of which inactive ones have no token: `at` is where the words begin.
__device__ __forceinline__ void step(
    uint2 entry, bool active, u32 bits, u16* words, u32 below, u32& x, u32& at, u32& absent) {
  const u32 factor = entry.x, packed = entry.y, rest = packed & 0xfff;
  const bool gives = active && (x >> (32 - bits)) + rest >= 1u << bits;
  const u32 mask = __ballot_sync(ALL_LANES, gives);
  at -= __popc(mask);
  if (gives) {
    words[at + __popc(mask & below)] = (u16)x;
    x >>= 16;
  }
  // x / f · 2^bits + start + x mod f
  const u32 quotient = __funnelshift_r(__umulhi(x + (packed >> 31), factor), 0, packed >> 24);
  const u32 y = x + (packed >> 12 & 0xfff) + quotient * rest;
  if (active) {
    x = y;
    if (factor == 0) absent = 1;
  }
}

// What all steps of a stream share.
struct Stream {
  Contexts contexts;
  const uint2* shared;
  u16* words;
  u32 lane, below;
  u32 x, at, absent;
};

// The row's table, or its classes of kind lane % 16.
template <int states>
__device__ __forceinline__ u32 rowOf(const Stream& s, u32 row) {
  return states == NONE ? __ldg(s.contexts.tableOf + row) : __ldg(s.contexts.classes + row * 16 + (s.lane & 15));
}

template <int states, bool cached>
__device__ __forceinline__ uint2 entryOf(
    const Batch& b, const Stream& s, u32 own, u32 t, bool active, u32 second, u32 symbol) {
  u32 table = own;
  if (states != NONE) {
    const u32 kind = active ? __ldg(s.contexts.kinds + t) : 0;
    table = 2 * __shfl_sync(ALL_LANES, own, kind) + (second >> s.lane & 1);
  }
  return cached ? __ldg(b.tables + table * 256 + symbol) : s.shared[table * 256 + symbol];
}

// Rows of whole groups of 128 tokens. Four steps go together: what they look up does not depend on the states, so it is on
// its way before they begin.
template <int states, bool cached>
__device__ __forceinline__ void encodeWhole(const Batch& b, Stream& s, const u8* symbols) {
  const u32* second = s.contexts.second + b.rows * (b.tokens / 32);
  Pieces pieces;
  openPieces<-1>(pieces, b, symbols, s.lane);
  u32 following = rowOf<states>(s, b.rows - 1);
  for (u32 row = b.rows; row-- > 0;) {
    const u32 own = following;
    following = rowOf<states>(s, row > 0 ? row - 1 : 0);
    for (u32 end = b.tokens; end > 0; end -= 128) {
      const u32 piece = takePiece<-1>(pieces);
      second -= 4;
      uint2 entries[4];
#pragma unroll
      for (u32 i = 0; i < 4; i++) {
        const u32 first = 96 - 32 * i, mask = states == NONE ? 0 : second[3 - i];
        const u32 symbol = symbolIn(piece, first, s.lane);
        entries[i] = entryOf<states, cached>(b, s, own, end - 128 + first + s.lane, true, mask, symbol);
      }
#pragma unroll
      for (u32 i = 0; i < 4; i++) step(entries[i], true, b.bits, s.words, s.below, s.x, s.at, s.absent);
    }
  }
}

// Rows of any length.
template <int states, bool cached>
__device__ __forceinline__ void encodeAny(const Batch& b, Stream& s, const u8* symbols) {
  const u32 groups = (b.tokens + 31) / 32;
  const u32* second = s.contexts.second + b.rows * groups;
  symbols += (u64)b.rows * b.tokens;
  for (u32 row = b.rows; row-- > 0;) {
    const u32 own = rowOf<states>(s, row);
    symbols -= b.tokens;
    for (u32 group = groups; group-- > 0;) {
      const u32 t = group * 32 + s.lane;
      const bool active = t < b.tokens;
      const u32 mask = states == NONE ? 0 : *--second;
      const uint2 entry = entryOf<states, cached>(b, s, own, t, active, mask, active ? symbols[t] : 0);
      step(entry, active, b.bits, s.words, s.below, s.x, s.at, s.absent);
    }
  }
}

template <int states, bool cached>
__device__ __forceinline__ void encode(const Batch& b) {
  KVZ_DYNAMIC_SHARED(uint2, shared);
  const u32 lane = threadIdx.x & 31, warps = blockDim.x >> 5, warp = blockIdx.x * warps + (threadIdx.x >> 5);
  if (!cached) {
    for (u32 i = threadIdx.x * 2; i < b.tableEntries; i += blockDim.x * 2) {
      *(uint4*)(shared + i) = *(const uint4*)(b.tables + i);
    }
  }
  __syncthreads();
  const u32 lanes = b.rows == 0 ? 0 : b.tokens < 32 ? b.tokens : 32, groups = (b.tokens + 31) / 32;
  Stream s;
  s.shared = shared;
  s.lane = lane;
  s.below = (1u << lane) - 1;
  for (u32 stream = warp; stream < b.streams; stream += gridDim.x * warps) {
    const u64 entry = b.each ? stream : 0;
    const u8* symbols = b.symbols + (u64)stream * b.rows * b.tokens;
    s.contexts.tableOf = b.tableOf + entry * b.rows;
    s.contexts.classes = b.classes + entry * b.rows * 16;
    s.contexts.kinds = b.kinds + entry * b.tokens;
    s.contexts.second = b.second + (u64)stream * b.rows * groups;
    s.words = (u16*)(b.slots + (u64)stream * b.slotBytes);
    s.at = b.slotBytes / 2;
    s.x = 0x10000;
    s.absent = 0;
    if (lanes > 0) {
      if (states == REGISTER && b.tokens % 128 == 0) walkWhole(b, s.contexts, symbols, lane);
      else if (states != NONE) walkTrellis<states>(b, s.contexts, symbols, lane, warp);
      if (b.tokens % 128 == 0) encodeWhole<states, cached>(b, s, symbols);
      else encodeAny<states, cached>(b, s, symbols);
    }
    s.at -= 2 * lanes;
    if (lane < lanes) {
      s.words[s.at + 2 * lane] = (u16)s.x;
      s.words[s.at + 2 * lane + 1] = (u16)(s.x >> 16);
    }
    const bool bad = __any_sync(ALL_LANES, s.absent);
    if (lane == 0) b.lengths[stream] = bad ? ABSENT : b.slotBytes - 2 * s.at;
  }
}

#define PARAMETERS                                                                                                   \
  const u8 *symbols, u32 streams, u32 rows, u32 tokens, u32 bits, const uint2 *tables, u32 tableEntries,             \
      const u16 *tableOf, const u8 *classes, const u8 *kinds, u32 even, u32 odd, u32 each, u8 *states, u32 *second,     \
      u8 *slots, u32 slotBytes, u32 *lengths
#define BATCH                                                                                                        \
  { symbols, streams, rows, tokens, bits, tables, tableEntries, tableOf, classes, kinds, even, odd, each, states, second, \
    slots, slotBytes, lengths }

extern "C" __global__ void __launch_bounds__(1024) ransEncodePlainShared(PARAMETERS) { encode<NONE, false>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransEncodePlainCached(PARAMETERS) { encode<NONE, true>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransEncodeTrellisShared(PARAMETERS) { encode<REGISTER, false>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransEncodeTrellisCached(PARAMETERS) { encode<REGISTER, true>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransEncodeLongShared(PARAMETERS) { encode<MEMORY, false>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransEncodeLongCached(PARAMETERS) { encode<MEMORY, true>(BATCH); }

// begins[i] = Σ lengths before i, each rounded up to a multiple of 4; one block of 1024 threads.
extern "C" __global__ void __launch_bounds__(1024) ransBegins(const u32* lengths, u32 streams, u32* begins) {
  KVZ_SHARED(u32, sums, 32);
  const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  u32 before = 0;
  for (u32 base = 0; base < streams; base += 4096) {
    const u32 i = base + threadIdx.x * 4;
    u32 own[4], sum = 0;
    for (u32 k = 0; k < 4; k++) {
      const u32 length = i + k < streams ? lengths[i + k] : 0;
      own[k] = sum;
      sum += length == ABSENT ? 0 : (length + 3) & ~3u;
    }
    u32 upto = sum;
    for (u32 d = 1; d < 32; d *= 2) {
      const u32 other = __shfl_up_sync(ALL_LANES, upto, d);
      if (lane >= d) upto += other;
    }
    if (lane == 31) sums[warp] = upto;
    __syncthreads();
    u32 warps = sums[lane];
    for (u32 d = 1; d < 32; d *= 2) {
      const u32 other = __shfl_up_sync(ALL_LANES, warps, d);
      if (lane >= d) warps += other;
    }
    const u32 total = __shfl_sync(ALL_LANES, warps, 31);
    const u32 earlier = __shfl_sync(ALL_LANES, warps, warp == 0 ? 0 : warp - 1);
    const u32 begin = before + (warp == 0 ? 0 : earlier) + upto - sum;
    for (u32 k = 0; k < 4; k++) {
      if (i + k < streams) begins[i + k] = begin + own[k];
    }
    before += total;
    __syncthreads();
  }
  if (threadIdx.x == 0) begins[streams] = before;
}

// Moves streams from the ends of their slots to where they begin: 4 KiB a warp and turn.
extern "C" __global__ void __launch_bounds__(256) ransCompact(
    const u8* slots, u32 slotBytes, const u32* lengths, const u32* begins, u32 streams, u32 parts, u8* bytes) {
  const u32 lane = threadIdx.x & 31, warps = blockDim.x >> 5;
  const u64 items = (u64)streams * parts;
  for (u64 item = (u64)blockIdx.x * warps + (threadIdx.x >> 5); item < items; item += (u64)gridDim.x * warps) {
    const u32 stream = (u32)(item / parts), part = (u32)(item % parts) * 1024, length = lengths[stream];
    if (length == ABSENT || part * 4 >= length) continue;
    // A stream of 4 n + 2 bytes begins in the middle of a word, and its last word is followed by zeros.
    const u32* from = (const u32*)(slots + (u64)stream * slotBytes + slotBytes - ((length + 3) & ~3u));
    u32* to = (u32*)(bytes + begins[stream]);
    const u32 count = (length + 3) / 4, end = min(part + 1024, count);
    if (length & 2) {
#pragma unroll 4
      for (u32 i = part + lane; i < end; i += 32) {
        to[i] = __funnelshift_r(from[i], i + 1 < count ? from[i + 1] : 0, 16);
      }
    } else {
#pragma unroll 4
      for (u32 i = part + lane; i < end; i += 32) to[i] = from[i];
    }
  }
}
