// Decodes rANS streams, a warp a stream: lane l of the warp is lane l of the stream, so that a lane's word is found by its
// rank among the lanes that take one (ballot and popcount). The chain from one step to the next has one look-up in a table
// and one in a ring of words; both lie in shared memory.
//
// The ring has 8 windows of 128 bytes, copied in the background. Every 4 steps, which take at most 128 words, the warp asks
// for the windows that it has room for; those it then needs were asked for at least 8 steps before.
#include "common.cuh"

constexpr u32 RING_BYTES = 1024;
constexpr u32 WINDOW_BYTES = 128;

// Status words (src/backend/gpu/entropy.ts).
enum { OK = 0, BAD_STATE = 1, TRUNCATED = 2, NOT_AT_END = 3 };

// How a slot's symbol is found.
enum {
  // Entries by slot, in shared memory.
  SHARED,
  // The symbol of every eighth slot, and entries by symbol to go on from there, in shared memory: a sixth of the room.
  SOUGHT,
  // Entries by slot, through the caches.
  CACHED,
};

// Where the trellis states of a lane's tokens are: nowhere (plain contexts), in a register (up to 256 tokens), in memory.
enum { NONE, REGISTER, MEMORY };

struct Batch {
  const u8* bytes;
  u32 byteLength;
  const u32* begins;
  // Or null: streams end where the next one begins.
  const u32* lengths;
  u32 streams, rows, tokens, bits;
  const u32* tables;
  // Words of the tables that go to shared memory, a multiple of 4.
  u32 tableWords;
  // Plain: [entries][rows].
  const u16* tableOf;
  // Trellis: [entries][rows][16], [entries][tokens]; next states after even and odd levels, 4 bits each by state.
  const u8* classes;
  const u8* kinds;
  u32 even, odd;
  // Whether there is an entry a stream, not one for all.
  u32 each;
  // MEMORY: [warps][tokens] of scratch.
  u8* states;
  u8* symbols;
  u32* status;
};

// The stream's words, of which a warp has the next in its ring.
struct Words {
  u8* shared;
  // Where the warp's ring begins in shared memory: a multiple of its size, so that places in it are cheap.
  u32 ring;
  const u8* from;
  // Bytes from `from` to the stream's end; what lies beyond is zero in the ring.
  u32 end;
  // The next window to ask for, times its size.
  u32 window;
};

// Asks for windows up to the sixth after that of byte `at`, four at most.
__device__ __forceinline__ void ask(Words& words, u32 at, u32 lane) {
  const u32 stop = (at & ~(WINDOW_BYTES - 1)) + 7 * WINDOW_BYTES, byte = words.window + lane * 16;
  const u32 left = byte < words.end ? words.end - byte : 0;
  if (byte < stop) {
    copyAsync16(words.shared + (words.ring | (byte & (RING_BYTES - 1))), words.from + (left ? byte : 0), min(left, 16u));
  }
  words.window = min(stop, words.window + 4 * WINDOW_BYTES);
}

// The tables of a lane's tokens, row after row.
struct Tables {
  // Those in shared memory.
  const u32* shared;
  // Plain: tables of this row and the next. Trellis: classes of kind lane % 16.
  u32 row, following;
  // Kinds and states of the lane's tokens, 4 bits each, the next token's lowest; `last` is the shift of the last.
  u32 kinds, trellis, last;
  const u8* kindOf;
  u8* memory;
};

template <int states>
__device__ __forceinline__ void openTables(Tables& tables, const Batch& b, u32 stream, u32 lane, u32 warp) {
  const u32 entry = b.each ? stream : 0;
  if (states == NONE) {
    tables.following = __ldg(b.tableOf + (u64)entry * b.rows);
    return;
  }
  tables.following = __ldg(b.classes + (u64)entry * b.rows * 16 + (lane & 15));
  tables.kindOf = b.kinds + (u64)entry * b.tokens;
  if (states == REGISTER) {
    tables.kinds = tables.trellis = 0;
    tables.last = 4 * ((b.tokens + 31) / 32 - 1);
    for (u32 t = lane, shift = 0; t < b.tokens; t += 32, shift += 4) tables.kinds |= __ldg(tables.kindOf + t) << shift;
  } else {
    tables.memory = b.states + (u64)warp * b.tokens;
    for (u32 t = lane; t < b.tokens; t += 32) tables.memory[t] = 0;
  }
}

// Goes to a row. The next one's are asked for already, so that nothing waits for them there.
template <int states>
__device__ __forceinline__ void toRow(Tables& tables, const Batch& b, u32 stream, u32 row, u32 lane) {
  const u64 ahead = (u64)(b.each ? stream : 0) * b.rows + (row + 1 < b.rows ? row + 1 : row);
  tables.row = tables.following;
  tables.following = states == NONE ? __ldg(b.tableOf + ahead) : __ldg(b.classes + ahead * 16 + (lane & 15));
}

template <int states>
__device__ __forceinline__ u32 tableOf(const Tables& tables, u32 t, bool active) {
  if (states == NONE) return tables.row;
  u32 kind = 0, state = 0;
  if (states == REGISTER) {
    kind = tables.kinds & 15, state = tables.trellis & 7;
  } else if (active) {
    kind = __ldg(tables.kindOf + t), state = tables.memory[t];
  }
  return 2 * __shfl_sync(ALL_LANES, tables.row, kind) + (state >> 2);
}

// Moves the token's state on.
template <int states>
__device__ __forceinline__ void move(Tables& tables, const Batch& b, u32 t, bool active, u32 symbol) {
  if (states == NONE) return;
  const u32 list = (symbol + 1) & 2 ? b.odd : b.even;
  if (states == REGISTER) {
    const u32 state = (list >> 4 * (tables.trellis & 7)) & 7;
    tables.trellis = tables.trellis >> 4 | state << tables.last;
    tables.kinds = tables.kinds >> 4 | (tables.kinds & 15) << tables.last;
  } else if (active) {
    tables.memory[t] = (list >> 4 * tables.memory[t]) & 7;
  }
}

// The symbol of state x, in the lowest byte, and the state behind it, before it takes a word. An entry by slot is the
// symbol (8 bits), the slot less the symbol's first (12 bits), the symbol's frequency less one (12 bits).
template <int lookup>
__device__ __forceinline__ u32 symbolOf(const Batch& b, const u32* tables, u32 table, u32& x) {
  const u32 slot = x & ((1u << b.bits) - 1), quotient = x >> b.bits;
  if (lookup == SOUGHT) {
    // The first words say where each table begins. An entry by symbol is its first slot and the one behind its last.
    const u32* own = tables + tables[table];
    u32 symbol = ((const u8*)own)[slot >> 3];
    own += 1u << (b.bits - 5);
    u32 entry = own[symbol];
    while (slot >= entry >> 16) entry = own[++symbol];
    const u32 first = entry & 0xffff;
    x = quotient * ((entry >> 16) - first) + slot - first;
    return symbol;
  }
  const u32 entry = lookup == SHARED ? (tables + (table << b.bits))[slot] : __ldg(b.tables + (table << b.bits) + slot);
  x = quotient * (entry >> 20) + quotient + ((entry >> 8) & 0xfff);
  return entry;
}

// One step of all lanes. Inactive ones have no token in it.
template <int lookup, int states>
__device__ __forceinline__ u32 step(
    const Batch& b, const Words& words, Tables& tables, u32 below, u32 t, bool active, u32& x, u32& at) {
  u32 y = x;
  const u32 symbol = symbolOf<lookup>(b, tables.shared, tableOf<states>(tables, t, active), y);
  const bool needs = active && y < 0x10000;
  const u32 mask = __ballot_sync(ALL_LANES, needs);
  const u32 place = ((at + 2 * __popc(mask & below)) & (RING_BYTES - 1)) | words.ring;
  const u32 word = *(const u16*)(words.shared + place);
  if (needs) y = __byte_perm(word, y, 0x5410);
  if (active) x = y;
  at += 2 * __popc(mask);
  move<states>(tables, b, t, active, symbol);
  return symbol;
}

template <int lookup, int states>
__device__ __forceinline__ u32 decodeStream(
    const Batch& b, Words& words, Tables& tables, u32 begin, u32 length, u32 stream, u32 lane, u32 warp) {
  const u32 below = (1u << lane) - 1, lanes = b.rows == 0 ? 0 : b.tokens < 32 ? b.tokens : 32;
  if (length < 4 * lanes) return TRUNCATED;
  if ((length | begin) & 1) return NOT_AT_END;
  if (lanes == 0) return length == 0 ? OK : NOT_AT_END;
  u32 x = 0x10000;
  if (lane < lanes) {
    const u16* from = (const u16*)(b.bytes + begin) + 2 * lane;
    x = from[0] | (u32)from[1] << 16;
  }
  if (__any_sync(ALL_LANES, x < 0x10000)) return BAD_STATE;
  u32 at = begin % WINDOW_BYTES + 4 * lanes;
  words.from = b.bytes + (begin - begin % WINDOW_BYTES);
  words.end = begin % WINDOW_BYTES + length;
  words.window = at & ~(WINDOW_BYTES - 1);
  ask(words, at, lane);
  ask(words, at, lane);
  copyAsyncCommit();
  copyAsyncWait<0>();
  __syncwarp();
  openTables<states>(tables, b, stream, lane, warp);
  u8* out = b.symbols + (u64)stream * b.rows * b.tokens;
  if (b.tokens % 128 == 0) {
    out += lane;
    for (u32 row = 0; row < b.rows; row++) {
      toRow<states>(tables, b, stream, row, lane);
      for (u32 t = lane; t < b.tokens; t += 128, out += 128) {
        ask(words, at, lane);
        copyAsyncCommit();
        copyAsyncWait<2>();
        __syncwarp();
#pragma unroll
        for (u32 i = 0; i < 128; i += 32) {
          out[i] = (u8)step<lookup, states>(b, words, tables, below, t + i, true, x, at);
        }
      }
    }
  } else {
    u32 steps = 0;
    for (u32 row = 0; row < b.rows; row++, out += b.tokens) {
      toRow<states>(tables, b, stream, row, lane);
      for (u32 first = 0; first < b.tokens; first += 32, steps++) {
        if (steps % 4 == 0) {
          ask(words, at, lane);
          copyAsyncCommit();
          copyAsyncWait<2>();
          __syncwarp();
        }
        const u32 t = first + lane;
        const u32 symbol = step<lookup, states>(b, words, tables, below, t, t < b.tokens, x, at);
        if (t < b.tokens) out[t] = (u8)symbol;
      }
    }
  }
  // Nothing may be on its way into the ring when the next stream begins.
  copyAsyncWait<0>();
  __syncwarp();
  if (at > words.end) return TRUNCATED;
  return at < words.end || __any_sync(ALL_LANES, x != 0x10000) ? NOT_AT_END : OK;
}

template <int lookup, int states>
__device__ __forceinline__ void decode(const Batch& b) {
  KVZ_DYNAMIC_SHARED(u8, shared);
  const u32 lane = threadIdx.x & 31, warps = blockDim.x >> 5, warp = blockIdx.x * warps + (threadIdx.x >> 5);
  // The rings, then the tables.
  u32* copied = (u32*)(shared + warps * RING_BYTES);
  for (u32 i = threadIdx.x * 4; i < b.tableWords; i += blockDim.x * 4) {
    *(uint4*)(copied + i) = *(const uint4*)(b.tables + i);
  }
  Tables tables;
  tables.shared = copied;
  __syncthreads();
  Words words;
  words.shared = shared;
  words.ring = (threadIdx.x >> 5) * RING_BYTES;
  for (u32 stream = warp; stream < b.streams; stream += gridDim.x * warps) {
    const u32 begin = min(b.begins[stream], b.byteLength), most = b.byteLength - begin;
    const u32 asked = b.lengths ? b.lengths[stream] : b.begins[stream + 1] - begin;
    // One that could not be encoded has no bytes; ranges outside of the buffer have none either.
    const u32 length = asked <= most ? asked : 0;
    const u32 status = decodeStream<lookup, states>(b, words, tables, begin, length, stream, lane, warp);
    if (lane == 0) b.status[stream] = status;
  }
}

#define PARAMETERS                                                                                            \
  const u8 *bytes, u32 byteLength, const u32 *begins, const u32 *lengths, u32 streams, u32 rows, u32 tokens, u32 bits,            \
      const u32 *tables, u32 tableWords, const u16 *tableOf, const u8 *classes, const u8 *kinds,              \
      u32 even, u32 odd, u32 each, u8 *states, u8 *symbols, u32 *status
#define BATCH \
  { bytes, byteLength, begins, lengths, streams, rows, tokens, bits, tables, tableWords, tableOf, classes, kinds, even, odd, each, states, symbols, status }

extern "C" __global__ void __launch_bounds__(1024, 2) ransDecodePlainShared(PARAMETERS) { decode<SHARED, NONE>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024, 2) ransDecodePlainSought(PARAMETERS) { decode<SOUGHT, NONE>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransDecodePlainCached(PARAMETERS) { decode<CACHED, NONE>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024, 2) ransDecodeTrellisShared(PARAMETERS) { decode<SHARED, REGISTER>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024, 2) ransDecodeTrellisSought(PARAMETERS) { decode<SOUGHT, REGISTER>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransDecodeTrellisCached(PARAMETERS) { decode<CACHED, REGISTER>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransDecodeLongShared(PARAMETERS) { decode<SHARED, MEMORY>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransDecodeLongSought(PARAMETERS) { decode<SOUGHT, MEMORY>(BATCH); }
extern "C" __global__ void __launch_bounds__(1024) ransDecodeLongCached(PARAMETERS) { decode<CACHED, MEMORY>(BATCH); }
