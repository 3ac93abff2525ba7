// Symbols → coefficients: escapes to their symbols, the trellis along a token's components, prediction along the tokens.
// decodeTrellisReference and unescapeLevels define every integer. Token-major matrices are i16 [chunks][tokens][stride].
// Models, words, places and values of escapes are bounded here: a file made them.
#include "trellis.cuh"

// Status words (src/backend/gpu/trellis.ts).
constexpr u32 STATUS_OK = 0xffffffffu, STATUS_TOO_LARGE = 0xf0000001u, STATUS_SURPLUS = 0xf0000000u;

// A chunk's model.
__device__ __forceinline__ u64 modelOf(const u32* models, u32 chunk, u32 count) { return min(models[chunk], count - 1); }

// ---- 1. where each row's groups of 32 tokens find their escapes

// places[chunk][c][g] = escapes among the symbols of tokens 32 g … 32 g + 31; a thread each.
extern "C" __global__ void trellisCountEscapes(const u8* symbols, u32 rows, u32 tokens, u32 groups, u32* places) {
  u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= rows * groups) return;
  u32 row = i / groups, begin = (i - row * groups) * 32;
  u64 at = ((u64)blockIdx.y * rows + row) * tokens + begin;
  u32 count = 0;
  if (tokens % 32 == 0) {
    const uint4* from = (const uint4*)(symbols + at);
    for (u32 j = 0; j < 2; j++) {
      uint4 four = from[j];
      u32 words[4] = {four.x, four.y, four.z, four.w};
      for (u32 k = 0; k < 4; k++) {
        // Bytes 254 and 255 become 0; then the highest bit of every byte that is 0.
        u32 x = ~(words[k] | 0x01010101u);
        count += __popc(~(((x & 0x7f7f7f7fu) + 0x7f7f7f7fu) | x | 0x7f7f7f7fu));
      }
    }
  } else {
    u32 end = min(32u, tokens - begin);
    for (u32 j = 0; j < end; j++) count += symbols[at + j] >= ESCAPE_ODD;
  }
  places[(u64)blockIdx.y * rows * groups + i] = count;
}

// places → sums of those before, a block of 1024 threads a chunk; totals (or null) and begins (or null: the values that
// there are, which sets the status).
extern "C" __global__ void trellisScan(u32* places, u32 count, u32* totals, const u32* begins, u32* status) {
  KVZ_SHARED(u32, sums, 32);
  u32* own = places + (u64)blockIdx.x * count;
  u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  u32 before = 0;
  for (u32 base = 0; base < count; base += 4096) {
    u32 i = base + threadIdx.x * 4;
    u32 v[4], sum = 0, total;
    for (u32 j = 0; j < 4; j++) {
      v[j] = i + j < count ? own[i + j] : 0;
      sum += v[j];
    }
    u32 prefix = warpPrefix(sum, total);
    __syncthreads();
    if (lane == 0) sums[warp] = total;
    __syncthreads();
    u32 all;
    u32 warps = warpPrefix(sums[lane], all);
    u32 at = before + prefix + __shfl_sync(ALL_LANES, warps, warp);
    for (u32 j = 0; j < 4; j++) {
      if (i + j < count) own[i + j] = at;
      at += v[j];
    }
    before += all;
  }
  if (threadIdx.x != 0) return;
  if (totals) totals[blockIdx.x] = before;
  if (begins) {
    status[2 * blockIdx.x] = before < begins[blockIdx.x + 1] - begins[blockIdx.x] ? STATUS_SURPLUS : STATUS_OK;
    status[2 * blockIdx.x + 1] = 0;
  }
}

// ---- 2. the trellis: a thread a token, 32 components at a time

constexpr u32 WALK_TOKENS = 128;
constexpr u32 WALK_COMPONENTS = 32;

// Residuals in steps (beyond 16 bits: ±32,767, which no prediction brings back) to quarters, component after component.
extern "C" __global__ void __launch_bounds__(128) trellisWalk(
    const u8* symbols, u32 components, u32 tokens, u32 stride, u32 groups, const u32* places, const u32* values,
    u32 valueEnd, const u32* begins, const u8* base, const u8* limits, const u32* models, u32 modelCount,
    const u32* words, const i8* offsets, i16* quarters, u32* status) {
  // Limits of both quantizers' tables for every component of the tile and kind of token.
  KVZ_SHARED(u16, bounds, WALK_COMPONENTS * TOKEN_KINDS);
  KVZ_SHARED(u32, tile, WALK_TOKENS * (WALK_COMPONENTS / 2 + 1));
  u32 chunk = blockIdx.y, first = blockIdx.x * WALK_TOKENS, t = first + threadIdx.x, lane = threadIdx.x & 31;
  bool present = t < tokens;
  u32 word = present ? words[(u64)chunk * tokens + t] : 0;
  u32 kind = kindOf(word);
  const u8* row = symbols + (u64)chunk * components * tokens + t;
  const u8* classes = base + modelOf(models, chunk, modelCount) * MODES * components;
  const u32* place = places + (u64)chunk * components * groups + t / 32;
  u32 valuesBegin = min(begins[chunk], valueEnd), valueCount = min(begins[chunk + 1], valueEnd) - valuesBegin;
  if (valueCount > valueEnd - valuesBegin) valueCount = 0;
  i16* out = quarters + (u64)chunk * tokens * stride;
  u32 state = 0, error = STATUS_OK;
  u32 symbolsAhead[WALK_COMPONENTS];
  for (u32 c0 = 0; c0 < stride; c0 += WALK_COMPONENTS) {
    u32 here = c0 < components ? min(WALK_COMPONENTS, components - c0) : 0;
#pragma unroll
    for (u32 k = 0; k < WALK_COMPONENTS; k++) symbolsAhead[k] = present && k < here ? row[(u64)(c0 + k) * tokens] : 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < WALK_COMPONENTS * MODES; i += blockDim.x) {
      u32 k = i & 31, mode = i >> 5;
      if (k < here) {
        i32 index = classes[mode * components + c0 + k], offset = offsets[(u64)chunk * components + c0 + k];
        for (u32 energy = 0; energy < ENERGIES; energy++) {
          u32 table = 2 * tokenClass(index, offset, energy);
          bounds[k * TOKEN_KINDS + ENERGIES * mode + energy] = limits[table] | limits[table + 1] << 8;
        }
      }
    }
    __syncthreads();
    i32 even = 0;
#pragma unroll
    for (u32 k = 0; k < WALK_COMPONENTS; k++) {
      i32 residual = 0;
      if (k < here) {
        u32 symbol = symbolsAhead[k];
        u32 limit = bounds[k * TOKEN_KINDS + kind] >> (state & 4 ? 8 : 0) & 255;
        bool escaped = symbol >= ESCAPE_ODD;
        u32 z = symbol;
        u32 asked = __ballot_sync(ALL_LANES, escaped);
        if (escaped) {
          u32 rank = place[(u64)(c0 + k) * groups] + __popc(asked & ((1u << lane) - 1));
          // One that is missing or wrong has all bits set.
          u32 value = rank < valueCount ? values[valuesBegin + rank] : 0xffffffffu;
          z = value < 2 * MAX_LEVEL ? value + limit : 0xffffffffu;
          if (z > 2 * MAX_LEVEL || (((z + 1) >> 1 ^ symbol + 1 >> 1) & 1)) {
            error = min(error, ((c0 + k) * tokens + t) << 2);
            z = 0;
          }
        } else if (symbol >= limit && present) {
          error = min(error, ((c0 + k) * tokens + t) << 2 | 1);
        }
        i32 magnitude = min((z + 1) & ~1u, 65534u);
        magnitude -= magnitude > 0 && state & 4 ? 1 : 0;
        magnitude = min(magnitude, 32767);
        residual = z & 1 ? magnitude : -magnitude;
        state = nextState(state, (symbol + 1) >> 1 & 1);
      }
      if (k & 1) tile[threadIdx.x * (WALK_COMPONENTS / 2 + 1) + k / 2] = (even & 0xffff) | (u32)residual << 16;
      else even = residual;
    }
    __syncthreads();
    // Half a warp a token: 64 bytes of its row.
    u32 half = threadIdx.x & 15;
    for (u32 r = threadIdx.x >> 4; r < WALK_TOKENS; r += blockDim.x >> 4) {
      if (first + r < tokens && c0 + 2 * half < stride) {
        *(u32*)(out + (u64)(first + r) * stride + c0 + 2 * half) = tile[r * (WALK_COMPONENTS / 2 + 1) + half];
      }
    }
  }
  error = __reduce_min_sync(ALL_LANES, error);
  if (lane == 0 && error != STATUS_OK) atomicMin(status + 2 * chunk, error);
}

// ---- 3. prediction: a thread two components, token after token

// Quarters of residuals → quarters, in place; a component's references are the thread's own.
extern "C" __global__ void __launch_bounds__(128) trellisPredict(
    u32 components, u32 tokens, u32 stride, const i8* rho32, const u32* models, u32 modelCount, const u32* words,
    i16* quarters, u32* status) {
  u32 chunk = blockIdx.y, c = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
  const i8* rho = rho32 + modelOf(models, chunk, modelCount) * MODES * components;
  const u32* word = words + (u64)chunk * tokens;
  i16* column = quarters + (u64)chunk * tokens * stride + c;
  i32 largest = 0;
  bool beyond = false;
  if (c < components) {
    // Four modes' factors in a word, the fifth's in another.
    u32 low[2] = {0, 0}, last[2] = {0, 0};
    for (u32 j = 0; j < 2 && c + j < components; j++) {
      for (u32 mode = 0; mode < 4; mode++) low[j] |= (u32)(u8)rho[mode * components + c + j] << 8 * mode;
      last[j] = (u8)rho[4 * components + c + j];
    }
    u32 previous = 0;
#pragma unroll 4
    for (u32 t = 0; t < tokens; t++) {
      u32 w = word[t], residual = *(u32*)(column + (u64)t * stride);
      // None, or one that is not yet decoded: no prediction.
      u32 ref = w & 0xffff, mode = min(modeOf(w), MODES - 1);
      u32 other = 0;
      if (ref < t) other = ref + 1 == t ? previous : *(u32*)(column + (u64)ref * stride);
      i32 r0 = (i8)((mode == 4 ? last[0] : low[0] >> 8 * mode) & 255), r1 = (i8)((mode == 4 ? last[1] : low[1] >> 8 * mode) & 255);
      i32 a = predict(r0, (i16)(other & 0xffff)) + 4 * (i16)(residual & 0xffff);
      i32 b = predict(r1, (i16)(other >> 16)) + 4 * (i16)(residual >> 16);
      beyond |= a != (i16)a || b != (i16)b;
      a = (i16)a;
      b = (i16)b;
      largest = max(largest, max(abs(a), abs(b)));
      previous = (a & 0xffff) | (u32)b << 16;
      *(u32*)(column + (u64)t * stride) = previous;
    }
  }
  largest = __reduce_max_sync(ALL_LANES, largest);
  bool any = __any_sync(ALL_LANES, beyond);
  if ((threadIdx.x & 31) == 0) {
    atomicMax(status + 2 * chunk + 1, (u32)largest);
    if (any) atomicMin(status + 2 * chunk, STATUS_TOO_LARGE);
  }
}

// ---- what the entropy coder is told

// classes[chunk][c][16], kinds[chunk][t]; a thread each.
extern "C" __global__ void trellisContexts(
    u32 components, u32 tokens, const u8* base, const u32* models, u32 modelCount, const u32* words, const i8* offsets,
    u8* classes, u8* kinds) {
  u32 i = blockIdx.x * blockDim.x + threadIdx.x, chunk = blockIdx.y;
  if (i < tokens) {
    u32 word = words[(u64)chunk * tokens + i];
    kinds[(u64)chunk * tokens + i] = kindOf(word);
  }
  if (i >= components) return;
  const u8* own = base + modelOf(models, chunk, modelCount) * MODES * components + i;
  i32 offset = offsets[(u64)chunk * components + i];
  u32 out[4] = {0, 0, 0, 0};
  for (u32 kind = 0; kind < MODES * ENERGIES; kind++) {
    out[kind >> 2] |= (u32)tokenClass(own[kind / ENERGIES * components], offset, kind % ENERGIES) << 8 * (kind & 3);
  }
  *(uint4*)(classes + ((u64)chunk * components + i) * TOKEN_KINDS) = make_uint4(out[0], out[1], out[2], out[3]);
}
