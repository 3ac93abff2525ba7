// Around the trellis coder: coefficients → sixteenths of a step (toSubsteps), levels → symbols and escapes (escapeLevels).
// Token-major matrices are [chunks][tokens][stride].
#include "trellis.cuh"

constexpr u32 THREADS = 256;

// gain · (first + second): the gain is a power of two, so this is the sum of what both are worth, rounded once.
__device__ __forceinline__ float coefficientAt(const float* first, const float* second, float gain, u64 i) {
  return __fadd_rn(__fmul_rn(gain, first[i]), __fmul_rn(gain, second[i]));
}

// The largest magnitude and the largest sum of a token's magnitudes, f64 [chunks][2], which begins as zeros; a warp 32
// tokens. Sums are in the order of the components, as toSubsteps adds them. NaN counts as more than infinity.
extern "C" __global__ void __launch_bounds__(128) trellisMagnitudes(
    const float* first, const float* second, float gain, u32 stride, u32 components, u32 tokens, u64* largest) {
  KVZ_SHARED(float, tiles, 4 * 32 * 33);
  u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, t0 = (blockIdx.x * 4 + warp) * 32;
  float* tile = tiles + warp * 32 * 33;
  u64 chunk = blockIdx.y;
  double sum = 0;
  u32 most = 0;
  for (u32 c0 = 0; c0 < components; c0 += 32) {
#pragma unroll 8
    for (u32 r = 0; r < 32; r++) {
      bool present = t0 + r < tokens && c0 + lane < components;
      float value = present ? coefficientAt(first, second, gain, (chunk * tokens + t0 + r) * stride + c0 + lane) : 0;
      tile[r * 33 + lane] = fabsf(value);
    }
    __syncwarp();
    u32 end = min(32u, components - c0);
    for (u32 c = 0; c < end; c++) {
      float value = tile[lane * 33 + c];
      sum = __dadd_rn(sum, (double)value);
      most = max(most, __float_as_uint(value));
    }
    __syncwarp();
  }
  // Magnitudes are ordered as their bits are.
  for (u32 with = 16; with > 0; with /= 2) sum = fmax(sum, __shfl_xor_sync(ALL_LANES, sum, with));
  most = __reduce_max_sync(ALL_LANES, most);
  if (lane == 0 && t0 < tokens) {
    // NaN stays so as float64.
    u64 bits = most > 0x7f800000u ? 0x7ff8000000000000ull : (u64)__double_as_longlong((double)__uint_as_float(most));
    atomicMax(largest + 2 * chunk, bits);
    atomicMax(largest + 2 * chunk + 1, (u64)__double_as_longlong(sum));
  }
}

// rows = coefficient · factor of the chunk, rounded to nearest even, padding 0, from token `begin` of a chunk's rows on; a
// thread an element.
extern "C" __global__ void trellisSubsteps(
    const float* first, const float* second, float gain, u32 stride, u32 components, u32 tokens, u32 rowStride,
    u32 begin, const double* factors, i32* rows) {
  u32 c = blockIdx.x * blockDim.x + threadIdx.x;
  u64 chunk = blockIdx.z;
  if (c >= rowStride) return;
  u32 t = blockIdx.y;
  float value = c < components ? coefficientAt(first, second, gain, (chunk * tokens + t) * stride + c) : 0;
  rows[(chunk * (begin + tokens) + begin + t) * rowStride + c] = __double2int_rn(__dmul_rn((double)value, factors[chunk]));
}

// Symbol of a coded level (2 · level + quantizer) in a token and component, and the value of its escape, if it is one.
__device__ __forceinline__ u32 symbolOf(i32 coded, const u8* limits, i32 base, i32 offset, u32 word, u32& value) {
  i32 level = coded >> 1;
  u32 z = zigzag(level), limit = limits[2 * tokenClass(base, offset, energyOf(word)) + (coded & 1)];
  value = z - limit;
  return z < limit ? z : ESCAPE_ODD + 1 - (level & 1);
}

constexpr u32 TILE_ROWS = 32;
constexpr u32 TILE_TOKENS = 128;

// Levels → symbols [chunks][components][tokens], and the bytes of escapes of each row's groups of 32 tokens; a block of 256
// threads 32 components × 128 tokens.
extern "C" __global__ void __launch_bounds__(256) trellisSymbols(
    u32 components, u32 tokens, u32 stride, u32 groups, const u8* limits, const u8* base, const u32* models,
    const u32* words, const i8* offsets, const i16* levels, u8* symbols, u32* places) {
  KVZ_SHARED(u32, symbolTile, TILE_ROWS * (TILE_TOKENS / 4 + 1));
  KVZ_SHARED(u32, byteTile, TILE_ROWS * (TILE_TOKENS / 4 + 1));
  constexpr u32 ROW = (TILE_TOKENS / 4 + 1) * 4;
  u32 t0 = blockIdx.x * TILE_TOKENS, c0 = blockIdx.y * TILE_ROWS, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  u64 chunk = blockIdx.z;
  u32 c = c0 + lane;
  bool present = c < components;
  const u8* classes = base + (u64)models[chunk] * MODES * components + c;
  i32 offset = present ? offsets[chunk * components + c] : 0;
#pragma unroll 4
  for (u32 r = warp; r < TILE_TOKENS; r += THREADS / 32) {
    u32 symbol = 0, bytes = 0;
    if (present && t0 + r < tokens) {
      u64 token = chunk * tokens + t0 + r;
      u32 word = words[token], value;
      symbol = symbolOf(levels[token * stride + c], limits, classes[modeOf(word) * components], offset, word, value);
      if (symbol >= ESCAPE_ODD) bytes = lebBytes(value);
    }
    ((u8*)symbolTile)[lane * ROW + r] = symbol;
    ((u8*)byteTile)[lane * ROW + r] = bytes;
  }
  __syncthreads();
  for (u32 r = warp; r < TILE_ROWS; r += THREADS / 32) {
    // Four tokens a lane; eight lanes a group.
    u32 sum = dotBytes(byteTile[r * ROW / 4 + lane], 0x01010101u, 0u);
    for (u32 with = 1; with < 8; with *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, with);
    u32 t = t0 + 4 * lane;
    if (c0 + r >= components || t >= tokens) continue;
    if (lane % 8 == 0) places[(chunk * components + c0 + r) * groups + t / 32] = sum;
    u32 four = symbolTile[r * ROW / 4 + lane];
    u8* to = symbols + (chunk * components + c0 + r) * tokens + t;
    if (tokens % 4 == 0) {
      *(u32*)to = four;
    } else {
      for (u32 j = 0; j < 4 && t + j < tokens; j++) to[j] = four >> 8 * j;
    }
  }
}

// The escapes themselves, at begins[chunk] + places[chunk][group]; a warp 32 groups, of which most have none.
extern "C" __global__ void trellisEscapes(
    u32 components, u32 tokens, u32 stride, u32 groups, const u8* limits, const u8* base, const u32* models,
    const u32* words, const i8* offsets, const i16* levels, const u32* places, const u32* lengths, const u32* begins,
    u8* bytes) {
  u32 lane = threadIdx.x & 31, first = (blockIdx.x * blockDim.x + threadIdx.x) & ~31u, count = components * groups;
  u64 chunk = blockIdx.y;
  const u32* place = places + chunk * count;
  u32 mine = first + lane < count ? place[first + lane] : 0;
  u32 behind = first + lane + 1 < count ? place[first + lane + 1] : lengths[chunk];
  u32 filled = __ballot_sync(ALL_LANES, first + lane < count && behind > mine);
  while (filled) {
    u32 source = __ffs(filled) - 1;
    filled &= filled - 1;
    u32 group = first + source, c = group / groups, t = (group - c * groups) * 32 + lane;
    u32 symbol = 0, value = 0;
    if (t < tokens) {
      u64 token = chunk * tokens + t;
      u32 word = words[token];
      i32 index = base[((u64)models[chunk] * MODES + modeOf(word)) * components + c];
      symbol = symbolOf(levels[token * stride + c], limits, index, offsets[chunk * components + c], word, value);
    }
    u32 total, length = symbol >= ESCAPE_ODD ? lebBytes(value) : 0;
    u32 at = warpPrefix(length, total) + __shfl_sync(ALL_LANES, mine, source);
    u8* to = bytes + begins[chunk] + at;
    for (u32 j = 0; j < length; j++) to[j] = (value >> 7 * j & 0x7f) | (j + 1 < length ? 0x80 : 0);
  }
}
