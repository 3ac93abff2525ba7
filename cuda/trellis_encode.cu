// Coefficients → levels: prediction from similar tokens and the cheapest path through the trellis, a block a chunk.
// encodeTrellisReference defines every integer. Token-major matrices are [chunks][tokens][stride].
//
// The trellis is walked in 32 segments of a token at once: (1) from each of the eight states a segment may begin in, what
// its eight ends cost (min-plus matrices); (2) one after the other, what the segments' beginnings cost; (3) all segments
// again from those, now with decisions; (4) back from each of the eight ends. Integer sums and minima do not depend on
// this order, and the decisions of (3) are those of a walk from the token's beginning, ties too.
#include "trellis.cuh"

constexpr u32 THREADS = 256;
constexpr u32 WARPS = THREADS / 32;
constexpr u32 SEGMENTS = 32;
constexpr u32 STATES = 8;
// Cost of a state that no path has reached: above all real costs (4096 components of at most 120,000), and twice as much
// is still within 31 bits.
constexpr i32 UNREACHED = 0x38000000;
constexpr i32 ZERO_REACH = 1024;
constexpr u32 SIMILAR_COMPONENTS = 64;
constexpr u32 SIMILAR_TOKENS = 4;
constexpr u32 PROXY_COMPONENTS = 256;
constexpr u32 PROXY_BUCKETS = 160;
constexpr u32 CANDIDATES = SIMILAR_TOKENS + 2;

// Cost of a level in 1/256 bit, its escape included.
__device__ __forceinline__ u32 levelBits(const u16* bits, const u8* limits, u32 table, i32 level) {
  u32 z = zigzag(level), limit = limits[table];
  if (z < limit) return bits[table * 256 + z];
  return bits[table * 256 + ESCAPE_ODD + 1 - (level & 1)] + 2048 * lebBytes(z - limit);
}

// Level of the lower of the two reconstructions around a residual in sixteenths.
__device__ __forceinline__ i32 lowerLevel(i32 residual, u32 quantizer) {
  if (quantizer == 0) return residual >> 5;
  if (residual >= 16) return (residual + 16) >> 5;
  if (residual >= 0) return 0;
  return residual >= -16 ? -1 : (residual - 16) >> 5;
}

__device__ __forceinline__ i32 bucketOf(i32 magnitude) {
  if (magnitude < 64) return magnitude;
  i32 top = 31 - __clz(magnitude);
  return min((i32)PROXY_BUCKETS - 1, 64 + 8 * (top - 6) + (magnitude >> (top - 3) & 7));
}

struct Chunk {
  u32 components, stride, segmentLength;
  i32 weight;
  const u16* bits;
  const u8* limits;
  const i8* rho32;
  const u8* base;
  const i32* costs;
  const i32* rows;
  i16* levels;
  i16* reconstruction;
  u32* words;
  // Null: all are 0.
  const i8* offsets;
};

// Shared memory of a block.
struct Memory {
  // even0, odd0, even1, odd1 of a component; when the costs are used up, a byte for each end of its segment: the move there.
  int4* branches;
  u8* decisions;
  // Bit q: level 0 is the even level of quantizer q.
  u8* zeros;
  // [segment][begin][end].
  i32* matrices;
  // [segment][state].
  i32* begins;
  u32* maps;
};

__device__ __forceinline__ i32 levelCost(const Chunk& w, u32 table, i32 residual, i32 level) {
  i32 error = residual - 16 * reconstruct(level, table & 1);
  return error * error + (i32)((u32)w.weight * levelBits(w.bits, w.limits, table, level) >> 8);
}

// A step of all eight states; `decisions` gets a bit each: the second, higher predecessor is cheaper.
__device__ __forceinline__ void step(i32 c[STATES], int4 b, u32* decisions) {
  i32 even0 = b.x, odd0 = b.y, even1 = b.z, odd1 = b.w;
  i32 x[STATES] = {c[0] + even0, c[4] + even1, c[1] + odd0, c[5] + odd1, c[0] + odd0, c[4] + odd1, c[1] + even0, c[5] + even1};
  i32 y[STATES] = {c[2] + odd0, c[6] + odd1, c[3] + even0, c[7] + even1, c[2] + even0, c[6] + even1, c[3] + odd0, c[7] + odd1};
  u32 taken = 0;
#pragma unroll
  for (u32 s = 0; s < STATES; s++) {
    if (decisions) taken |= (u32)(y[s] < x[s]) << s;
    c[s] = min(x[s], y[s]);
  }
  if (decisions) *decisions = taken;
}

// Where a state came from, 2 · state + parity, by 2 · state + decision: a nibble each.
__device__ __forceinline__ u32 origin(u32 state, u32 decision) {
  u32 table = state & 4 ? 0xfa72c941u : 0xeb63d850u;
  return table >> ((state & 3) << 3 | decision << 2) & 15;
}

__device__ __forceinline__ i32 predicted(const Chunk& w, u32 word, u32 c) {
  i32 ref = refOf(word);
  return ref < 0 ? 0 : predict(w.rho32[modeOf(word) * w.components + c], w.reconstruction[(u64)ref * w.stride + c]);
}

// Quantizes token t by its word and the offsets. Ends with a barrier.
__device__ void quantizeToken(const Chunk& w, const Memory& m, u32 t, u32 word) {
  const i32* row = w.rows + (u64)t * w.stride;
  const u8* base = w.base + modeOf(word) * w.components;
  u32 C = w.components, length = w.segmentLength, segments = (C + length - 1) / length;
  u32 thread = threadIdx.x, lane = thread & 31;
  for (u32 c = thread; c < C; c += THREADS) {
    i32 residual = row[c] - 4 * predicted(w, word, c);
    u32 index = tokenClass(base[c], w.offsets ? w.offsets[c] : 0, energyOf(word));
    i32 cost[4];
    u32 zeros = 0;
#pragma unroll
    for (u32 q = 0; q < 2; q++) {
      u32 table = 2 * index + q;
      i32 lower = lowerLevel(residual, q);
      i32 a = levelCost(w, table, residual, lower), b = levelCost(w, table, residual, lower + 1);
      i32 even = lower & 1 ? b : a;
      if (abs(residual) <= ZERO_REACH) {
        i32 zero = levelCost(w, table, residual, 0);
        if (zero < even) {
          even = zero;
          zeros |= 1 << q;
        }
      }
      cost[2 * q] = even;
      cost[2 * q + 1] = lower & 1 ? a : b;
    }
    m.branches[c] = make_int4(cost[0], cost[1], cost[2], cost[3]);
    m.zeros[c] = zeros;
  }
  __syncthreads();

  u32 segment = thread >> 3, state = thread & 7;
  u32 begin = segment * length, end = min(C, begin + length);
  if (segment < segments) {
    i32 c[STATES];
#pragma unroll
    for (u32 s = 0; s < STATES; s++) c[s] = s == state ? 0 : UNREACHED;
    for (u32 i = begin; i < end; i++) step(c, m.branches[i], nullptr);
    int4* to = (int4*)(m.matrices + thread * STATES);
    to[0] = make_int4(c[0], c[1], c[2], c[3]);
    to[1] = make_int4(c[4], c[5], c[6], c[7]);
  }
  __syncthreads();

  // The first warp: lanes of equal lane % 8 do the same.
  if (thread < 32) {
    i32 cost = state == 0 ? 0 : UNREACHED;
    for (u32 g = 0; g < segments; g++) {
      if (lane < STATES) m.begins[g * STATES + lane] = cost;
      i32 next = 0x7fffffff;
#pragma unroll
      for (u32 s = 0; s < STATES; s++) {
        next = min(next, __shfl_sync(ALL_LANES, cost, s) + m.matrices[(g * STATES + s) * STATES + state]);
      }
      cost = next;
    }
    // Of equally cheap ends the lowest state.
    i32 least = __reduce_min_sync(ALL_LANES, cost);
    u32 last = __ffs(__ballot_sync(ALL_LANES, cost == least)) - 1;
    if (lane == 0) m.maps[SEGMENTS] = last;
    __syncwarp();
    if (lane < segments) {
      i32 c[STATES];
      int4* from = (int4*)(m.begins + lane * STATES);
      int4 a = from[0], b = from[1];
      c[0] = a.x, c[1] = a.y, c[2] = a.z, c[3] = a.w, c[4] = b.x, c[5] = b.y, c[6] = b.z, c[7] = b.w;
      u32 first = lane * length, behind = min(C, first + length);
      for (u32 i = first; i < behind; i++) {
        u32 decisions;
        step(c, m.branches[i], &decisions);
        m.decisions[i] = decisions;
      }
    }
  }
  __syncthreads();

  // Back from each end of each segment.
  u32 from = state;
  if (segment < segments) {
    u8* moves = (u8*)m.branches + state;
    for (u32 i = end; i-- > begin;) {
      u32 move = origin(from, m.decisions[i] >> from & 1);
      moves[i * 16] = move;
      from = move >> 1;
    }
  }
  from <<= 4 * state;
  for (u32 with = 1; with < STATES; with *= 2) from |= __shfl_xor_sync(ALL_LANES, from, with);
  if (state == 0) m.maps[segment] = from;
  __syncthreads();

  // Each warp follows the segments for itself; lane g keeps the end of segment g.
  u32 map = m.maps[lane], at = m.maps[SEGMENTS], mine = 0;
  for (u32 g = segments; g-- > 0;) {
    if (g == lane) mine = at;
    at = __shfl_sync(ALL_LANES, map, g) >> 4 * at & 7;
  }
  for (u32 first = thread & ~31u; first < C; first += THREADS) {
    u32 c = first + lane, g = min(c, C - 1) / length;
    u32 e = __shfl_sync(ALL_LANES, mine, g);
    if (c >= C) continue;
    u32 move = ((u8*)m.branches)[c * 16 + e], quantizer = move >> 3;
    i32 p = predicted(w, word, c);
    i32 level = lowerLevel(row[c] - 4 * p, quantizer);
    if (move & 1) level |= 1;
    else level = m.zeros[c] >> quantizer & 1 ? 0 : (level + 1) & ~1;
    w.levels[(u64)t * w.stride + c] = 2 * level + quantizer;
    w.reconstruction[(u64)t * w.stride + c] = p + 4 * reconstruct(level, quantizer);
  }
  __syncthreads();
}

// The four earlier tokens most like token t, nearest first, of equals the earlier first (−1: none); `found` is shared and
// holds a warp's four each. `row` is the token's leading components, zero beyond. All threads of the first warp have them.
__device__ void similarTokens(const Chunk& w, const i32* row, u32 t, u64* found) {
  constexpr u64 NONE = ~0ull;
  u64 best[SIMILAR_TOKENS] = {NONE, NONE, NONE, NONE};
  u32 n = min(SIMILAR_COMPONENTS, w.components);
  for (u32 u = threadIdx.x; u < t; u += THREADS) {
    const i16* other = w.reconstruction + (u64)u * w.stride;
    u32 distance = 0;
    if (n == SIMILAR_COMPONENTS) {
#pragma unroll 2
      for (u32 c = 0; c < SIMILAR_COMPONENTS; c += 8) {
        uint4 eight = *(const uint4*)(other + c);
        u32 pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
          distance += abs(row[c + 2 * j] - 4 * (i32)(i16)(pairs[j] & 0xffff));
          distance += abs(row[c + 2 * j + 1] - 4 * (i32)(i16)(pairs[j] >> 16));
        }
      }
    } else {
      for (u32 c = 0; c < n; c++) distance += abs(row[c] - 4 * other[c]);
    }
    u64 key = (u64)distance << 16 | u;
#pragma unroll
    for (u32 j = 0; j < SIMILAR_TOKENS; j++) {
      u64 less = min(best[j], key);
      key = max(best[j], key);
      best[j] = less;
    }
  }
  u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (u32 round = 0; round < SIMILAR_TOKENS; round++) {
    u64 least = best[0];
    for (u32 with = 16; with > 0; with /= 2) least = min(least, (u64)__shfl_xor_sync(ALL_LANES, least, with));
    if (best[0] == least && least != NONE) {
      best[0] = best[1];
      best[1] = best[2];
      best[2] = best[3];
      best[3] = NONE;
    }
    if (lane == 0) found[warp * SIMILAR_TOKENS + round] = least;
  }
  __syncthreads();
}

// Chooses reference and mode of token t among no reference, the previous token and the four most similar ones, by what the
// leading components are going to cost. All threads get the word.
__device__ u32 choosePrediction(const Chunk& w, u32 t) {
  KVZ_SHARED(i32, row, SIMILAR_COMPONENTS);
  KVZ_SHARED(u64, found, WARPS * SIMILAR_TOKENS);
  KVZ_SHARED(u32, sums, WARPS * 32);
  static_assert(WARPS * SIMILAR_TOKENS == 32, "a lane each");
  u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const i32* whole = w.rows + (u64)t * w.stride;
  if (threadIdx.x < SIMILAR_COMPONENTS) row[threadIdx.x] = threadIdx.x < w.components ? whole[threadIdx.x] : 0;
  __syncthreads();
  similarTokens(w, row, t, found);
  // Every warp merges for itself.
  i32 refs[CANDIDATES];
  refs[0] = -1;
  refs[1] = t > 0 ? (i32)t - 1 : -2;
  u64 mine = found[lane];
#pragma unroll
  for (u32 round = 0; round < SIMILAR_TOKENS; round++) {
    u64 least = mine;
    for (u32 with = 16; with > 0; with /= 2) least = min(least, (u64)__shfl_xor_sync(ALL_LANES, least, with));
    if (mine == least) mine = ~0ull;
    refs[2 + round] = least == ~0ull ? -2 : (i32)(least & 0xffff);
  }
  u32 c = threadIdx.x;
  bool counted = c < min(PROXY_COMPONENTS, w.components);
  i32 value = counted ? whole[c] : 0;
  u32 classes[MODES];
  i32 rho[MODES];
#pragma unroll
  for (u32 mode = 0; mode < MODES; mode++) {
    classes[mode] = counted ? w.base[mode * w.components + c] * PROXY_BUCKETS : 0;
    rho[mode] = counted ? w.rho32[mode * w.components + c] : 0;
  }
#pragma unroll
  for (u32 j = 0; j < CANDIDATES; j++) {
    if (refs[j] < -1) continue;
    i32 other = refs[j] < 0 || !counted ? 0 : w.reconstruction[(u64)refs[j] * w.stride + c];
#pragma unroll
    for (u32 mode = 0; mode < MODES; mode++) {
      i32 p = refs[j] < 0 ? 0 : predict(rho[mode], other);
      u32 cost = counted ? w.costs[classes[mode] + bucketOf(abs(value - 4 * p))] : 0;
      u32 sum = __reduce_add_sync(ALL_LANES, cost);
      if (lane == 0) sums[warp * 32 + j * MODES + mode] = sum;
    }
  }
  __syncthreads();
  // Of equals the first: costs are below 2^26.
  u32 key = ~0u;
  if (lane < CANDIDATES * MODES) {
    u32 sum = 0;
    for (u32 i = 0; i < WARPS; i++) sum += sums[i * 32 + lane];
    bool present = false;
#pragma unroll
    for (u32 j = 0; j < CANDIDATES; j++) present |= lane / MODES == j && refs[j] > -2;
    if (present) key = sum << 5 | lane;
  }
  u32 best = __reduce_min_sync(ALL_LANES, key) & 31;
  i32 ref = -1;
#pragma unroll
  for (u32 j = 0; j < CANDIDATES; j++) ref = best / MODES == j ? refs[j] : ref;
  return wordOf(ref, best % MODES, 1);
}

__device__ __forceinline__ void encodeChunk(
    bool choose, u32 components, u32 tokens, u32 stride, u32 first, i32 weight, u32 segmentLength, const u16* bits,
    const u8* limits, const i8* rho32, const u8* base, const i32* costs, const u32* models, const i32* rows, i16* levels,
    i16* reconstruction, u32* words, const i8* offsets) {
  KVZ_DYNAMIC_SHARED(u8, shared);
  KVZ_SHARED(i32, matrices, SEGMENTS * STATES * STATES);
  KVZ_SHARED(i32, begins, SEGMENTS * STATES);
  KVZ_SHARED(u32, maps, SEGMENTS + 1);
  u64 chunk = blockIdx.x, model = models[chunk];
  Chunk w = {components, stride, segmentLength, weight, bits, limits, rho32 + model * MODES * components,
             base + model * MODES * components, costs, rows + chunk * tokens * stride, levels + chunk * tokens * stride,
             reconstruction + chunk * tokens * stride, words + chunk * tokens, offsets ? offsets + chunk * components : nullptr};
  u32 padded = (components + 15) & ~15u;
  Memory m = {(int4*)shared, shared + 16 * padded, shared + 17 * padded, matrices, begins, maps};
  for (u32 t = first; t < tokens; t++) {
    u32 word;
    if (choose) {
      word = choosePrediction(w, t);
      if (threadIdx.x == 0) w.words[t] = word;
    } else {
      word = w.words[t];
    }
    // The row's padding is no coefficient.
    if (threadIdx.x < stride - components) {
      w.levels[(u64)t * stride + components + threadIdx.x] = 0;
      w.reconstruction[(u64)t * stride + components + threadIdx.x] = 0;
    }
    quantizeToken(w, m, t, word);
  }
}

// Chooses reference and mode of each token, with the middle energy, and quantizes it; a block a chunk, 18 bytes of dynamic
// shared memory a component (rounded up to 16).
extern "C" __global__ void __launch_bounds__(256, 2) trellisChoose(
    u32 components, u32 tokens, u32 stride, u32 first, i32 weight, u32 segmentLength, const u16* bits, const u8* limits,
    const i8* rho32, const u8* base, const i32* costs, const u32* models, const i32* rows, i16* levels,
    i16* reconstruction, u32* words, const i8* offsets) {
  encodeChunk(true, components, tokens, stride, first, weight, segmentLength, bits, limits, rho32, base, costs, models,
              rows, levels, reconstruction, words, offsets);
}

// Quantizes each token again, by its word and the offsets.
extern "C" __global__ void __launch_bounds__(256, 2) trellisQuantize(
    u32 components, u32 tokens, u32 stride, u32 first, i32 weight, u32 segmentLength, const u16* bits, const u8* limits,
    const i8* rho32, const u8* base, const i32* costs, const u32* models, const i32* rows, i16* levels,
    i16* reconstruction, u32* words, const i8* offsets) {
  encodeChunk(false, components, tokens, stride, first, weight, segmentLength, bits, limits, rho32, base, costs, models,
              rows, levels, reconstruction, words, offsets);
}

// ---- energies and offsets, by the exact cost of the levels found

// The energy under which a token's levels are the shortest, of equals the middle one, then the lower; a warp a token.
// Without offsets all are 0.
extern "C" __global__ void trellisEnergies(
    u32 components, u32 tokens, u32 stride, u32 first, const u16* bits, const u8* limits, const u8* base,
    const u32* models, const i16* levels, u32* words, const i8* offsets) {
  u32 lane = threadIdx.x & 31, t = first + blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  u64 chunk = blockIdx.y;
  if (t >= tokens) return;
  u32 word = words[chunk * tokens + t];
  const u8* classes = base + ((u64)models[chunk] * MODES + modeOf(word)) * components;
  const i16* row = levels + (chunk * tokens + t) * stride;
  u32 sums[ENERGIES] = {0, 0, 0};
  for (u32 c = lane; c < components; c += 32) {
    i32 coded = row[c], index = classes[c], offset = offsets ? offsets[chunk * components + c] : 0;
#pragma unroll
    for (u32 energy = 0; energy < ENERGIES; energy++) {
      sums[energy] += levelBits(bits, limits, 2 * tokenClass(index, offset, energy) + (coded & 1), coded >> 1);
    }
  }
#pragma unroll
  for (u32 energy = 0; energy < ENERGIES; energy++) sums[energy] = __reduce_add_sync(ALL_LANES, sums[energy]);
  u32 best = 1, least = sums[1];
  if (sums[0] < least) best = 0, least = sums[0];
  if (sums[2] < least) best = 2;
  if (lane == 0) words[chunk * tokens + t] = (word & 0xffffff) | best << 24;
}

// The offset of each component's class under which its levels are the shortest: 0, −4, −2, 2 or 4, the first of the
// cheapest, where one other than 0 costs three bits; a thread a component.
extern "C" __global__ void trellisOffsets(
    u32 components, u32 tokens, u32 stride, const u16* bits, const u8* limits, const u8* base, const u32* models,
    const i16* levels, const u32* words, i8* offsets) {
  u32 c = blockIdx.x * blockDim.x + threadIdx.x;
  u64 chunk = blockIdx.y;
  if (c >= components) return;
  const u8* classes = base + (u64)models[chunk] * MODES * components + c;
  const i16* column = levels + chunk * tokens * stride + c;
  const u32* word = words + chunk * tokens;
  // By (offset + 4) / 2.
  u32 sums[5] = {768, 768, 0, 768, 768};
  for (u32 t = 0; t < tokens; t++) {
    u32 w = word[t];
    i32 coded = column[(u64)t * stride], index = classes[modeOf(w) * components];
#pragma unroll
    for (i32 j = 0; j < 5; j++) {
      sums[j] += levelBits(bits, limits, 2 * tokenClass(index, 2 * j - 4, energyOf(w)) + (coded & 1), coded >> 1);
    }
  }
  u32 best = 2, least = sums[2];
#pragma unroll
  for (u32 j = 0; j < 5; j++) {
    if (j != 2 && sums[j] < least) best = j, least = sums[j];
  }
  offsets[chunk * components + c] = (i8)(2 * (i32)best - 4);
}
