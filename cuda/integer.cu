/**
 * The integer transform: sums of basis entries times levels on the tensor cores of signed bytes, exact modulo 2^32. A level is
 * 256 · high + low, both signed bytes; most tiles of levels have no high byte at all, and are multiplied once.
 *
 * The basis is packed by feature, [features][basisDepth], basisDepth = components rounded up to 64, so are the planes of the
 * levels, [tokens][depth], of as many components or fewer; `flags` u32 [⌈tokens / 128⌉][depth / 64] says which tiles of levels have a high byte.
 */
#include "tiles.cuh"

/** packed[f][c] = basis[c][f], 0 from `components` to `depth`: a block turns 64 × 64 entries. */
extern "C" __global__ void packBasis(const i8* basis, int components, int features, int depth,
                                      i8* packed) {
  KVZ_SHARED(i8, tile, 64 * 65);
  int f0 = blockIdx.x * 64, c0 = blockIdx.y * 64;
  for (int i = threadIdx.x; i < 64 * 64; i += blockDim.x) {
    int c = c0 + i / 64, f = f0 + i % 64;
    tile[i / 64 * 65 + i % 64] = c < components && f < features ? basis[(i64)c * features + f] : 0;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 64 * 64; i += blockDim.x) {
    int f = f0 + i / 64;
    if (f < features) packed[(i64)f * depth + c0 + i % 64] = tile[i % 64 * 65 + i / 64];
  }
}

/** Planes and flag of 128 tokens × 64 components a block of 256 threads. The high plane is written where the flag is 1. */
extern "C" __global__ void splitLevels(const i16* levels, int stride, int tokens, int depth, i8* low,
                                        i8* high, u32* flags) {
  KVZ_SHARED(u32, any, 1);
  int c = blockIdx.x * 64 + threadIdx.x % 8 * 8;
  int first = blockIdx.y * 128 + threadIdx.x / 8;
  if (threadIdx.x == 0) any[0] = 0;
  __syncthreads();
  u32 upper[4][2];
  u32 seen = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int t = first + i * 32;
    uint4 v = make_uint4(0, 0, 0, 0);
    if (t < tokens && c < stride) v = *(const uint4*)(levels + (i64)t * stride + c);
    u32 pairs[4] = {v.x, v.y, v.z, v.w};
    u32 lower[2] = {0, 0};
    upper[i][0] = upper[i][1] = 0;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      int level = (i16)(pairs[j / 2] >> (j % 2 * 16));
      int highByte = (level + 128) >> 8;
      lower[j / 4] |= (u32)(level & 255) << (j % 4 * 8);
      upper[i][j / 4] |= (u32)(highByte & 255) << (j % 4 * 8);
    }
    seen |= upper[i][0] | upper[i][1];
    if (t < tokens) *(uint2*)(low + (i64)t * depth + c) = make_uint2(lower[0], lower[1]);
  }
  if (seen != 0) any[0] = 1;
  __syncthreads();
  if (threadIdx.x == 0) flags[blockIdx.y * gridDim.x + blockIdx.x] = any[0];
  if (any[0] == 0) return;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int t = first + i * 32;
    if (t < tokens) *(uint2*)(high + (i64)t * depth + c) = make_uint2(upper[i][0], upper[i][1]);
  }
}

/** Most tiles of a depth: 65,536 components. */
#define MAX_DEPTH_TILES 1024

/**
 * sums[t][j] = Σ_c packed[j][c] · level[t][c] of `n` features; columns from n to `columns` are zero. The tiles with high bytes
 * come first; their sums are multiplied by 256 before the low bytes join them.
 */
template <class T>
__device__ __forceinline__ void bytesProduct(const i8* packed, const i8* low, const i8* high,
                                              const u32* flags, int* sumsTo, int m, int n, int columns, int depth,
                                              int basisDepth) {
  KVZ_DYNAMIC_SHARED(u16, tiles);
  KVZ_SHARED(u16, order, MAX_DEPTH_TILES);
  KVZ_SHARED(int, highCount, 1);
  int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
  int tileRow, tileColumn;
  tileOfBlock((m + T::BM - 1) / T::BM, (columns + T::BN - 1) / T::BN, &tileRow, &tileColumn);
  int m0 = tileRow * T::BM, n0 = tileColumn * T::BN;
  int warpM = warp % (T::BM / T::WM) * T::WM, warpN = warp / (T::BM / T::WM) * T::WN;
  const int BYTES = T::BK * 2;
  int depthTiles = depth / 64;

  if (warp == 0) {
    int found = 0;
    for (int first = 0; first < depthTiles; first += 32) {
      bool flag = first + lane < depthTiles && flags[m0 / 128 * depthTiles + first + lane] != 0;
      u32 mask = __ballot_sync(0xffffffffu, flag);
      if (flag) order[found + __popc(mask & ((1u << lane) - 1))] = (u16)(first + lane);
      found += __popc(mask);
    }
    if (lane == 0) highCount[0] = found;
  }
  __syncthreads();
  int highs = highCount[0];

  int aRow = tid / T::A_CHUNKS, aByte = tid % T::A_CHUNKS * 16;
  int bRow = tid / T::B_CHUNKS, bByte = tid % T::B_CHUNKS * 16;
  i64 aFrom = (i64)(m0 + aRow) * depth + aByte;
  const i8* bFrom = packed + (i64)(n0 + bRow) * basisDepth + bByte;
  const i64 aSkip = (i64)T::A_STEP * depth, bSkip = (i64)T::B_STEP * basisDepth;
  int aRows = m - m0 - aRow, bRows = n - n0 - bRow;

  auto copy = [&](u16* words, int t) {
    const i8* plane = t < highs ? high : low;
    int k0 = (t < highs ? order[t] : t - highs) * BYTES;
#pragma unroll
    for (int i = 0; i < T::A_COPIES; i++) {
      bool valid = i * T::A_STEP < aRows;
      copyAsync16(words + tileAt<T::A_CHUNKS>(aRow + i * T::A_STEP, aByte / 16),
             valid ? plane + aFrom + i * aSkip + k0 : low, valid ? 16 : 0);
    }
    words += T::A_WORDS;
#pragma unroll
    for (int i = 0; i < T::B_COPIES; i++) {
      bool valid = i * T::B_STEP < bRows;
      copyAsync16(words + tileAt<T::B_CHUNKS>(bRow + i * T::B_STEP, bByte / 16), valid ? bFrom + i * bSkip + k0 : packed,
                  valid ? 16 : 0);
    }
  };
  int sums[T::MT][T::NT][4];
  clearSums<T>(sums);
  auto begin = [&](int t) {
    if (t < highs) return highs;
    if (highs > 0) {
#pragma unroll
      for (int i = 0; i < T::MT; i++) {
#pragma unroll
        for (int j = 0; j < T::NT; j++) {
#pragma unroll
          for (int e = 0; e < 4; e++) sums[i][j][e] = (int)((u32)sums[i][j][e] << 8);
        }
      }
    }
    return highs + depthTiles;
  };
  multiplyTiles<T>(tiles, highs + depthTiles, warpM, warpN, copy, begin, sums);

#pragma unroll
  for (int i = 0; i < T::MT; i++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int row = m0 + warpM + i * 16 + lane / 4 + half * 8;
      if (row >= m) continue;
#pragma unroll
      for (int j = 0; j < T::NT; j++) {
        int at = n0 + warpN + j * 8 + lane % 4 * 2;
        // Rows of b beyond n were copied as zeros, so that the padding comes out as zero; columns is a multiple of 8.
        if (at < columns) {
          *(int2*)(sumsTo + (i64)row * columns + at) = make_int2(sums[i][j][half * 2], sums[i][j][half * 2 + 1]);
        }
      }
    }
  }
}

#define BYTES_PARAMETERS                                                                                               \
  const i8 *packed, const i8 *low, const i8 *high, const u32 *flags, int *sums, int m, int n, int columns, int depth, \
      int basisDepth

extern "C" __global__ void __launch_bounds__(256, 1) bytes256(BYTES_PARAMETERS) {
  bytesProduct<Tiles<128, 256, 64, 64, 32, 4, true>>(packed, low, high, flags, sums, m, n, columns, depth, basisDepth);
}
extern "C" __global__ void __launch_bounds__(128, 2) bytes128(BYTES_PARAMETERS) {
  bytesProduct<Tiles<128, 128, 64, 64, 32, 4, true>>(packed, low, high, flags, sums, m, n, columns, depth, basisDepth);
}
extern "C" __global__ void __launch_bounds__(128, 3) bytes64(BYTES_PARAMETERS) {
  bytesProduct<Tiles<64, 64, 32, 32, 32, 4, true>>(packed, low, high, flags, sums, m, n, columns, depth, basisDepth);
}

/** Restored feature f of a token: f32(f32(sum) · f32(scale · token scale)) + mean. */
__device__ __forceinline__ float restored(int sum, float scale, float tokenScale, float mean) {
  return __fadd_rn(__fmul_rn(__int2float_rn(sum), __fmul_rn(scale, tokenScale)), mean);
}

/** Bits of a value as a source element. TYPE: 0 f32, 1 f16, 2 bf16. */
template <int TYPE>
__device__ __forceinline__ u16 elementBits(float value) {
  return TYPE == 1 ? floatToHalf(value) : floatToBf16(value);
}

/** Writes 4 elements from element `at` of dst, a multiple of 4. */
template <int TYPE>
__device__ __forceinline__ void putElements(void* dst, i64 at, const float (&v)[4]) {
  if (TYPE == 0) {
    *(float4*)((float*)dst + at) = make_float4(v[0], v[1], v[2], v[3]);
  } else {
    u32 words[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      words[i] = (u32)elementBits<TYPE>(v[2 * i]) | (u32)elementBits<TYPE>(v[2 * i + 1]) << 16;
    }
    *(uint2*)((u16*)dst + at) = make_uint2(words[0], words[1]);
  }
}

template <int TYPE>
__device__ __forceinline__ void putElement(void* dst, i64 at, float v) {
  if (TYPE == 0) {
    ((float*)dst)[at] = v;
  } else {
    ((u16*)dst)[at] = elementBits<TYPE>(v);
  }
}

/**
 * dst[block][t][i] = convert(rotate(restored(sums[t][block · dim + i]))). A thread has N neighbours, and where they are rotated
 * their partners half a rotation further. N = 4 takes dim and rotary / 2 that are multiples of 4.
 */
template <int TYPE, int N>
__device__ __forceinline__ void scatterSums(const int* sums, int blocks, int tokens, int dim, int rotary, int stride,
                                             const float* scales, const float* tokenScales, const float* rotation,
                                             const float* mean, void* dst) {
  int half = rotary / 2;
  int items = (dim - half) / N;
  i64 index = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  int item = (int)(index % items);
  i64 rest = index / items;
  // Neighbouring threads go through a head, then to the next token of the block, as the elements lie.
  int t = (int)(rest % tokens);
  i64 block = rest / tokens;
  if (block >= blocks) return;
  bool turned = item * N < half;
  int i0 = turned ? item * N : item * N + half;
  float tokenScale = tokenScales[t];
  const int* row = sums + (i64)t * stride;
  i64 to = (block * tokens + t) * dim;

  float x[2][N];
#pragma unroll
  for (int side = 0; side < 2; side++) {
    if (side == 1 && !turned) break;
    int f = (int)block * dim + i0 + side * half;
    if (N == 4) {
      int4 s = *(const int4*)(row + f);
      float4 scale = *(const float4*)(scales + f);
      float4 mu = *(const float4*)(mean + f);
      x[side][0] = restored(s.x, scale.x, tokenScale, mu.x);
      x[side][1 % N] = restored(s.y, scale.y, tokenScale, mu.y);
      x[side][2 % N] = restored(s.z, scale.z, tokenScale, mu.z);
      x[side][3 % N] = restored(s.w, scale.w, tokenScale, mu.w);
    } else {
      x[side][0] = restored(row[f], scales[f], tokenScale, mean[f]);
    }
  }
  if (turned) {
    const float* turns = rotation + (i64)t * rotary + i0;
#pragma unroll
    for (int j = 0; j < N; j++) {
      float cosine = turns[j], sine = turns[half + j];
      float a = x[0][j], b = x[1][j];
      x[0][j] = __fsub_rn(__fmul_rn(a, cosine), __fmul_rn(b, sine));
      x[1][j] = __fadd_rn(__fmul_rn(b, cosine), __fmul_rn(a, sine));
    }
  }
#pragma unroll
  for (int side = 0; side < 2; side++) {
    if (side == 1 && !turned) break;
    if (N == 4) {
      float v[4] = {x[side][0], x[side][1 % N], x[side][2 % N], x[side][3 % N]};
      putElements<TYPE>(dst, to + i0 + side * half, v);
    } else {
      putElement<TYPE>(dst, to + i0 + side * half, x[side][0]);
    }
  }
}

#define SCATTER_PARAMETERS                                                                                             \
  const int *sums, int blocks, int tokens, int dim, int rotary, int stride, const float *scales,                      \
      const float *tokenScales, const float *rotation, const float *mean, void *dst

extern "C" __global__ void scatterF32By1(SCATTER_PARAMETERS) {
  scatterSums<0, 1>(sums, blocks, tokens, dim, rotary, stride, scales, tokenScales, rotation, mean, dst);
}
extern "C" __global__ void scatterF32By4(SCATTER_PARAMETERS) {
  scatterSums<0, 4>(sums, blocks, tokens, dim, rotary, stride, scales, tokenScales, rotation, mean, dst);
}
extern "C" __global__ void scatterF16By1(SCATTER_PARAMETERS) {
  scatterSums<1, 1>(sums, blocks, tokens, dim, rotary, stride, scales, tokenScales, rotation, mean, dst);
}
extern "C" __global__ void scatterF16By4(SCATTER_PARAMETERS) {
  scatterSums<1, 4>(sums, blocks, tokens, dim, rotary, stride, scales, tokenScales, rotation, mean, dst);
}
extern "C" __global__ void scatterBf16By1(SCATTER_PARAMETERS) {
  scatterSums<2, 1>(sums, blocks, tokens, dim, rotary, stride, scales, tokenScales, rotation, mean, dst);
}
extern "C" __global__ void scatterBf16By4(SCATTER_PARAMETERS) {
  scatterSums<2, 4>(sums, blocks, tokens, dim, rotary, stride, scales, tokenScales, rotation, mean, dst);
}
