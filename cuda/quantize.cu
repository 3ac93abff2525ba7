// KVTC's group quantizer and its packing: quantize, dequantize, pack, unpack, and FP8 rows. Every coefficient is read
// once: a block stages a slice of a token's row in shared memory, where its warps find the groups' ranges and the codes.
#include "common.cuh"

constexpr u32 INT2 = 1, FP8 = 3;

__device__ __forceinline__ float infinite() { return __uint_as_float(0x7f800000); }

// A slice of the components, as src/backend/cuda/plan.ts cuts them: no group crosses it.
struct alignas(16) Slice {
  u32 begin, end, firstTask, endTask;
};
// Up to 32 >> lanesLog2 groups that a warp quantizes together, 1 << lanesLog2 threads a group.
struct alignas(16) Task {
  u32 firstGroup, groups, lanesLog2, unused;
};
struct alignas(16) Group {
  u32 first, size, type, unused;
};

struct Scale {
  u16 shiftBits, scaleBits;
  float shift, scale;
};

__device__ __forceinline__ Scale scaleOf(u32 type, float least, float most) {
  Scale s;
  if (type == FP8) {
    s.shiftBits = 0;
    s.scaleBits = floatToHalf(__fdiv_rn(fmaxf(fabsf(least), fabsf(most)), 448.0f));
  } else {
    // + 0: of a minimum of −0, and of a range of −0.
    s.shiftBits = floatToHalf(__fadd_rn(least, 0.0f));
    float range = __fadd_rn(__fsub_rn(most, least), 0.0f);
    s.scaleBits = floatToHalf(__fdiv_rn(range, type == INT2 ? 3.0f : 15.0f));
  }
  s.shift = halfToFloat(s.shiftBits);
  s.scale = halfToFloat(s.scaleBits);
  return s;
}

__device__ __forceinline__ u32 codeOf(u32 type, float x, const Scale& s) {
  if (s.scale == 0.0f) return 0;
  if (type == FP8) return floatToE4m3(__fdiv_rn(x, s.scale));
  i32 q = __float2int_rn(__fdiv_rn(__fsub_rn(x, s.shift), s.scale));
  return (u32)min(max(q, 0), type == INT2 ? 3 : 15);
}

// Quantizes the groups of a task: values at x[group.first − begin + i], codes to codes[the same].
__device__ __forceinline__ void runTask(const Task& task, const Group* __restrict__ groups, u32 begin, const float* x,
                                        u8* codes, u32* __restrict__ params) {
  u32 lane = threadIdx.x % 32, lanes = 1u << task.lanesLog2, sub = lane & (lanes - 1), index = lane >> task.lanesLog2;
  bool active = index < task.groups;
  Group group = {begin, 0, INT2, 0};
  if (active) group = groups[task.firstGroup + index];
  const float* from = x + (group.first - begin);
  float least = infinite(), most = -infinite();
  for (u32 i = sub; i < group.size; i += lanes) {
    least = fminf(least, from[i]);
    most = fmaxf(most, from[i]);
  }
  for (u32 step = lanes / 2; step > 0; step /= 2) {
    least = fminf(least, __shfl_xor_sync(ALL_LANES, least, (int)step));
    most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, (int)step));
  }
  Scale s = scaleOf(group.type, least, most);
  u8* to = codes + (group.first - begin);
  for (u32 i = sub; i < group.size; i += lanes) to[i] = (u8)codeOf(group.type, from[i], s);
  if (active && sub == 0) params[task.firstGroup + index] = s.shiftBits | (u32)s.scaleBits << 16;
}

// coefficients f32 [tokens][stride] → symbols u8 [tokens][components], params [tokens][groups]: shift in the low half,
// scale in the high. A block takes a slice of a token. Dynamic shared memory: `width` + 4 floats, rounded up to 4, then
// `width` + 8 bytes; slices wider than `width` are one group each, and are read where they are.
extern "C" __global__ void __launch_bounds__(128) quantize(const float* __restrict__ coefficients, u32 stride,
                                                           const Slice* __restrict__ slices, u32 sliceCount,
                                                           const Task* __restrict__ tasks,
                                                           const Group* __restrict__ groups, u32 groupCount,
                                                           u32 components, u32 width, u8* __restrict__ symbols,
                                                           u32* __restrict__ params) {
  KVZ_DYNAMIC_SHARED(float, row);
  u32* codes = (u32*)(row + (width + 7) / 4 * 4);
  u32 token = blockIdx.x / sliceCount;
  Slice slice = slices[blockIdx.x - token * sliceCount];
  u32 length = slice.end - slice.begin, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  u64 at = (u64)token * stride + slice.begin, to = (u64)token * components + slice.begin;
  params += (u64)token * groupCount;
  if (length > width) {
    if (warp == 0) runTask(tasks[slice.firstTask], groups, slice.begin, coefficients + at, symbols + to, params);
    return;
  }
  // Both sides are aligned as their memory is: the slice begins `skip` elements after a vector's begin.
  u32 skip = (u32)(at & 3), vectors = (skip + length + 3) / 4;
  const float4* from = (const float4*)(coefficients + (at - skip));
  for (u32 v = threadIdx.x; v < vectors; v += blockDim.x) ((float4*)row)[v] = __ldcs(from + v);
  u32 byteSkip = (u32)(to & 3), words = (byteSkip + length + 3) / 4;
  for (u32 w = threadIdx.x; w < words; w += blockDim.x) codes[w] = 0;
  __syncthreads();
  for (u32 i = slice.firstTask + warp; i < slice.endTask; i += warps) {
    runTask(tasks[i], groups, slice.begin, row + skip, (u8*)codes + byteSkip, params);
  }
  __syncthreads();
  u8* out = symbols + (to - byteSkip);
  for (u32 w = threadIdx.x; w < words; w += blockDim.x) {
    if (w * 4 >= byteSkip && w * 4 + 4 <= byteSkip + length) {
      ((u32*)out)[w] = codes[w];
    } else {
      for (u32 b = w * 4; b < w * 4 + 4; b++) {
        if (b >= byteSkip && b < byteSkip + length) out[b] = ((u8*)codes)[b];
      }
    }
  }
}

__device__ __forceinline__ float valueOf(u32 type, u32 code, u32 param) {
  float scale = halfToFloat((u16)(param >> 16));
  if (type == FP8) return __fmul_rn(e4m3ToFloat(code), scale);
  return __fadd_rn(__fmul_rn((float)code, scale), halfToFloat((u16)param));
}

// Tokens that a thread of dequantize takes, one after another.
constexpr u32 TOKENS = 4;

// symbols, params → coefficients f32 [tokens][stride], zero outside of groups. `map` has an entry a component, rounded up
// to 4: its group, and its type in the two highest bits. A thread takes four components, blockDim.x threads a chunk.
extern "C" __global__ void __launch_bounds__(256) dequantize(const u8* __restrict__ symbols,
                                                             const u32* __restrict__ params,
                                                             const u32* __restrict__ map, u32 groupCount,
                                                             u32 components, u32 tokens, float* __restrict__ coefficients,
                                                             u32 stride, u32 chunks) {
  u32 part = blockIdx.x / chunks, c = ((blockIdx.x - part * chunks) * blockDim.x + threadIdx.x) * 4;
  if (c >= stride) return;
  u32 entry[4] = {0, 0, 0, 0};
  if (c < components) {
    uint4 four = ((const uint4*)map)[c / 4];
    entry[0] = four.x, entry[1] = four.y, entry[2] = four.z, entry[3] = four.w;
  }
#pragma unroll
  for (u32 i = 0; i < TOKENS; i++) {
    u32 token = part * TOKENS + i;
    if (token >= tokens) break;
    const u8* from = symbols + (u64)token * components + c;
    const u32* pairs = params + (u64)token * groupCount;
    float* to = coefficients + (u64)token * stride + c;
    // Codes of four components in a word, where rows of symbols are whole words.
    u32 codes = 0;
    if (c < components && components % 4 == 0) {
      codes = *(const u32*)from;
    } else {
#pragma unroll
      for (u32 k = 0; k < 4; k++) {
        if (entry[k] != 0) codes |= (u32)from[k] << (8 * k);
      }
    }
    float value[4];
    u32 pair = 0;
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
      u32 type = entry[k] >> 30;
      // Neighbours mostly share their group.
      if (type != 0 && (k == 0 || entry[k] != entry[k - 1])) pair = pairs[entry[k] & 0x3fffffff];
      value[k] = type == 0 ? 0.0f : valueOf(type, codes >> (8 * k) & 255, pair);
    }
    if (stride % 4 == 0) {
      *(float4*)to = make_float4(value[0], value[1], value[2], value[3]);
    } else {
#pragma unroll
      for (u32 k = 0; k < 4; k++) {
        if (c + k < stride) to[k] = value[k];
      }
    }
  }
}

// ---- packing: component after component, so that a tile of symbols is turned in shared memory

constexpr u32 TILE_COMPONENTS = 64, TILE_TOKENS = 128, PITCH = TILE_COMPONENTS + 4;

// A component: how many of each type come before it, and its type (0: not packed).
struct alignas(16) Packed {
  u32 int2, int4, fp8, type;
};

__device__ __forceinline__ u64 bytesOf(u64 tokens, u32 bits) { return (tokens * bits + 7) / 8; }

__device__ __forceinline__ u64 packedBegin(const Packed& p, u32 tokens) {
  return p.int2 * bytesOf(tokens, 2) + p.int4 * bytesOf(tokens, 4) + p.fp8 * (u64)tokens;
}

extern "C" __global__ void __launch_bounds__(256) pack(const u8* __restrict__ symbols,
                                                       const Packed* __restrict__ info, u32 components, u32 tokens,
                                                       u32 componentTiles, u8* __restrict__ packed) {
  KVZ_SHARED(u8, tile, TILE_TOKENS * PITCH);
  u32 tokenTile = blockIdx.x / componentTiles, c0 = (blockIdx.x - tokenTile * componentTiles) * TILE_COMPONENTS;
  u32 t0 = tokenTile * TILE_TOKENS, lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  if (components % 4 == 0) {
    for (u32 i = threadIdx.x; i < TILE_TOKENS * TILE_COMPONENTS / 4; i += blockDim.x) {
      u32 t = i / (TILE_COMPONENTS / 4), c = i % (TILE_COMPONENTS / 4) * 4;
      bool inside = t0 + t < tokens && c0 + c < components;
      *(u32*)(tile + t * PITCH + c) = inside ? *(const u32*)(symbols + (u64)(t0 + t) * components + c0 + c) : 0;
    }
  } else {
    for (u32 i = threadIdx.x; i < TILE_TOKENS * TILE_COMPONENTS; i += blockDim.x) {
      u32 t = i / TILE_COMPONENTS, c = i % TILE_COMPONENTS;
      bool inside = t0 + t < tokens && c0 + c < components;
      tile[t * PITCH + c] = inside ? symbols[(u64)(t0 + t) * components + c0 + c] : (u8)0;
    }
  }
  __syncthreads();
  for (u32 c = warp; c < TILE_COMPONENTS && c0 + c < components; c += warps) {
    Packed p = info[c0 + c];
    if (p.type == 0) continue;
    u32 bits = 1u << p.type, per = 8 / bits;
    u64 end = bytesOf(tokens, bits), first = (u64)t0 * bits / 8;
    u8* to = packed + packedBegin(p, tokens);
    for (u32 b = lane; b < TILE_TOKENS / per && first + b < end; b += 32) {
      u32 byte = 0;
      for (u32 k = 0; k < per; k++) byte |= (u32)tile[(b * per + k) * PITCH + c] << (k * bits);
      to[first + b] = (u8)byte;
    }
  }
}

extern "C" __global__ void __launch_bounds__(256) unpack(const u8* __restrict__ packed,
                                                         const Packed* __restrict__ info, u32 components, u32 tokens,
                                                         u32 componentTiles, u8* __restrict__ symbols) {
  KVZ_SHARED(u8, tile, TILE_TOKENS * PITCH);
  u32 tokenTile = blockIdx.x / componentTiles, c0 = (blockIdx.x - tokenTile * componentTiles) * TILE_COMPONENTS;
  u32 t0 = tokenTile * TILE_TOKENS, lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (u32 c = warp; c < TILE_COMPONENTS && c0 + c < components; c += warps) {
    Packed p = info[c0 + c];
    u32 bits = p.type == 0 ? 8 : 1u << p.type, per = 8 / bits, mask = (1u << bits) - 1;
    u64 end = bytesOf(tokens, bits), first = (u64)t0 * bits / 8;
    const u8* from = packed + packedBegin(p, tokens);
    for (u32 b = lane; b < TILE_TOKENS / per && first + b < end; b += 32) {
      u32 byte = p.type == 0 ? 0 : from[first + b];
      for (u32 k = 0; k < per; k++) tile[(b * per + k) * PITCH + c] = (u8)(byte >> (k * bits) & mask);
    }
  }
  __syncthreads();
  if (components % 4 == 0) {
    for (u32 i = threadIdx.x; i < TILE_TOKENS * TILE_COMPONENTS / 4; i += blockDim.x) {
      u32 t = i / (TILE_COMPONENTS / 4), c = i % (TILE_COMPONENTS / 4) * 4;
      if (t0 + t >= tokens || c0 + c >= components) continue;
      *(u32*)(symbols + (u64)(t0 + t) * components + c0 + c) = *(const u32*)(tile + t * PITCH + c);
    }
    return;
  }
  for (u32 i = threadIdx.x; i < TILE_TOKENS * TILE_COMPONENTS; i += blockDim.x) {
    u32 t = i / TILE_COMPONENTS, c = i % TILE_COMPONENTS;
    if (t0 + t < tokens && c0 + c < components) symbols[(u64)(t0 + t) * components + c0 + c] = tile[t * PITCH + c];
  }
}

// ---- the streams of chunks

// Streams → coefficients f32 [chunks][tokens][stride]: unpack and dequantize in one. Codes by type, a row a component,
// packed or a byte each, bytes2, bytes4 and bytes8 a chunk; `low` and `high` have the bytes of shifts and scales
// [chunks][shift, scale][groups][tokens]. `map` as in dequantize.
template <bool PACKED>
__device__ __forceinline__ void restoreTile(const u8* codes2, const u8* codes4, const u8* codes8, const u8* low,
                                            const u8* high, const Packed* info, const u32* map, u32 groupCount, u32 components,
                                            u32 tokens, u32 tokenTiles, u32 componentTiles, u64 bytes2, u64 bytes4, u64 bytes8,
                                            float* coefficients, u32 stride) {
  KVZ_SHARED(u8, tile, TILE_TOKENS * PITCH);
  u32 tokenTile = blockIdx.x / componentTiles, c0 = (blockIdx.x - tokenTile * componentTiles) * TILE_COMPONENTS;
  u32 chunk = tokenTile / tokenTiles, t0 = (tokenTile - chunk * tokenTiles) * TILE_TOKENS;
  codes2 += chunk * bytes2, codes4 += chunk * bytes4, codes8 += chunk * bytes8;
  u64 plane = (u64)groupCount * tokens;
  low += chunk * 2 * plane, high += chunk * 2 * plane, coefficients += (u64)chunk * tokens * stride;
  u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (u32 c = warp; c < TILE_COMPONENTS && c0 + c < components; c += warps) {
    Packed p = info[c0 + c];
    if (p.type == 0) continue;
    u32 bits = PACKED ? 1u << p.type : 8, per = 8 / bits, mask = (1u << bits) - 1;
    u64 end = bytesOf(tokens, bits), first = (u64)t0 * bits / 8;
    const u8* from = p.type == INT2 ? codes2 + p.int2 * end : p.type == FP8 ? codes8 + p.fp8 * end : codes4 + p.int4 * end;
    for (u32 b = lane; b < TILE_TOKENS / per && first + b < end; b += 32) {
      u32 byte = from[first + b];
      for (u32 k = 0; k < per; k++) tile[(b * per + k) * PITCH + c] = (u8)(byte >> (k * bits) & mask);
    }
  }
  __syncthreads();
  for (u32 i = threadIdx.x; i < TILE_TOKENS * TILE_COMPONENTS / 4; i += blockDim.x) {
    u32 t = i / (TILE_COMPONENTS / 4), q = i % (TILE_COMPONENTS / 4) * 4, token = t0 + t, c = c0 + q;
    if (token >= tokens || c >= stride) continue;
    u32 entry[4] = {0, 0, 0, 0};
    if (c < components) {
      uint4 four = ((const uint4*)map)[c / 4];
      entry[0] = four.x, entry[1] = four.y, entry[2] = four.z, entry[3] = four.w;
    }
    u32 codes = *(const u32*)(tile + t * PITCH + q), pair = 0;
    float value[4];
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
      u32 type = entry[k] >> 30;
      // Neighbours mostly share their group.
      if (type != 0 && (k == 0 || entry[k] != entry[k - 1])) {
        u64 at = (u64)(entry[k] & 0x3fffffff) * tokens + token;
        pair = low[at] | (u32)high[at] << 8 | (u32)low[plane + at] << 16 | (u32)high[plane + at] << 24;
      }
      value[k] = type == 0 ? 0.0f : valueOf(type, codes >> (8 * k) & 255, pair);
    }
    *(float4*)(coefficients + (u64)token * stride + c) = make_float4(value[0], value[1], value[2], value[3]);
  }
}

#define STREAM_PARAMETERS                                                                                              \
  const u8 *__restrict__ codes2, const u8 *__restrict__ codes4, const u8 *__restrict__ codes8,                         \
      const u8 *__restrict__ low, const u8 *__restrict__ high, const Packed *__restrict__ info, const u32 *__restrict__ map, u32 groupCount,       \
      u32 components, u32 tokens, u32 tokenTiles, u32 componentTiles, u64 bytes2, u64 bytes4, u64 bytes8,              \
      float *__restrict__ coefficients, u32 stride

extern "C" __global__ void __launch_bounds__(256) restorePacked(STREAM_PARAMETERS) {
  restoreTile<true>(codes2, codes4, codes8, low, high, info, map, groupCount, components, tokens, tokenTiles,
                    componentTiles, bytes2, bytes4, bytes8, coefficients, stride);
}
extern "C" __global__ void __launch_bounds__(256) restoreBytes(STREAM_PARAMETERS) {
  restoreTile<false>(codes2, codes4, codes8, low, high, info, map, groupCount, components, tokens, tokenTiles,
                     componentTiles, bytes2, bytes4, bytes8, coefficients, stride);
}

// Shifts and scales [chunks][tokens][groups] → their low and high bytes, as above. A block turns a square of 32.
extern "C" __global__ void __launch_bounds__(256) splitParams(const u32* __restrict__ params, u32 groupCount, u32 tokens,
                                                              u32 tokenTiles, u32 groupTiles, u8* __restrict__ low,
                                                              u8* __restrict__ high) {
  KVZ_SHARED(u32, square, 32 * 33);
  u32 tokenTile = blockIdx.x / groupTiles, g0 = (blockIdx.x - tokenTile * groupTiles) * 32;
  u32 chunk = tokenTile / tokenTiles, t0 = (tokenTile - chunk * tokenTiles) * 32;
  u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  u64 plane = (u64)groupCount * tokens;
  for (u32 t = warp; t < 32; t += warps) {
    bool inside = t0 + t < tokens && g0 + lane < groupCount;
    square[t * 33 + lane] = inside ? params[chunk * plane + (u64)(t0 + t) * groupCount + g0 + lane] : 0;
  }
  __syncthreads();
  if (t0 + lane >= tokens) return;
  for (u32 g = warp; g < 32 && g0 + g < groupCount; g += warps) {
    u32 pair = square[lane * 33 + g];
    u64 at = chunk * 2 * plane + (u64)(g0 + g) * tokens + t0 + lane;
    low[at] = (u8)pair;
    high[at] = (u8)(pair >> 8);
    low[at + plane] = (u8)(pair >> 16);
    high[at + plane] = (u8)(pair >> 24);
  }
}

// ---- FP8 rows

// A block a row: codes u8 [rows][length], scales u16 [rows].
extern "C" __global__ void __launch_bounds__(1024) encodeFp8(const float* __restrict__ src, u32 length,
                                                            u8* __restrict__ codes, u16* __restrict__ scales) {
  KVZ_SHARED(float, largest, 32);
  const float* row = src + (u64)blockIdx.x * length;
  float most = 0.0f;
#pragma unroll 4
  for (u32 i = threadIdx.x; i < length; i += blockDim.x) most = fmaxf(most, fabsf(row[i]));
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, step));
  if (threadIdx.x % 32 == 0) largest[threadIdx.x / 32] = most;
  __syncthreads();
  most = 0.0f;
  for (u32 w = 0; w < blockDim.x / 32; w++) most = fmaxf(most, largest[w]);
  Scale s = scaleOf(FP8, 0.0f, most);
  u8* to = codes + (u64)blockIdx.x * length;
#pragma unroll 4
  for (u32 i = threadIdx.x; i < length; i += blockDim.x) to[i] = (u8)codeOf(FP8, row[i], s);
  if (threadIdx.x == 0) scales[blockIdx.x] = s.scaleBits;
}

extern "C" __global__ void __launch_bounds__(256) decodeFp8(const u8* __restrict__ codes, const u16* __restrict__ scales,
                                                            u32 length, u32 chunks, float* __restrict__ dst) {
  u32 row = blockIdx.x / chunks, i = (blockIdx.x - row * chunks) * blockDim.x + threadIdx.x;
  if (i >= length) return;
  u64 at = (u64)row * length + i;
  dst[at] = __fmul_rn(e4m3ToFloat(codes[at]), halfToFloat(scales[row]));
}
