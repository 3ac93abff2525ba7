/**
 * Matrix products of the orthonormal transform. `b` is a basis, binary16 bits [components][features].
 *
 * By halves: rows are binary16 as well, products run on tensor cores and sums are binary32. Tiles of a and b come by
 * cp.async, several of them under way, into shared memory whose 16-byte chunks are permuted so that ldmatrix meets no
 * bank twice.
 *
 * By floats: rows are binary32, every product enters its sum by one fused multiply-add, from the first term to the last,
 * whatever the tile: a row's result depends neither on other rows nor on the columns asked for.
 */
#include "tiles.cuh"

/** A sum of column `at`, zero where that is padding. */
__device__ __forceinline__ float unpadded(float sum, int at, int n) { return at < n ? sum : 0; }

/**
 * c[m][j] = factor · Σ_k a[m][k] · b(k, j). BY_ROWS: b(k, j) = b[j][k], else b[k][j]. `a` has rows of `lda` halves, `b` of `ldb`,
 * both multiples of 8 from a 16-byte boundary; `k` is a multiple of 8. c has `columns` columns, a multiple of 8, of which
 * those from `n` on are written as zero. `limit` is how far b may be read along j: rows (BY_ROWS) or columns.
 */
template <class T>
__device__ __forceinline__ void halvesProduct(const u16* a, int lda, const u16* b, int ldb, float* c, int m, int n,
                                               int columns, int k, int limit, float factor) {
  KVZ_DYNAMIC_SHARED(u16, tiles);
  int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
  int tileRow, tileColumn;
  tileOfBlock((m + T::BM - 1) / T::BM, (columns + T::BN - 1) / T::BN, &tileRow, &tileColumn);
  int m0 = tileRow * T::BM, n0 = tileColumn * T::BN;
  int warpM = warp % (T::BM / T::WM) * T::WM, warpN = warp / (T::BM / T::WM) * T::WN;

  int aRow = tid / T::A_CHUNKS, aChunk = tid % T::A_CHUNKS;
  int bRow = tid / T::B_CHUNKS, bChunk = tid % T::B_CHUNKS;
  const u16* aFrom = a + (i64)(m0 + aRow) * lda + aChunk * 8;
  const u16* bFrom = T::BY_ROWS ? b + (i64)(n0 + bRow) * ldb + bChunk * 8
                                 : b + (i64)bRow * ldb + n0 + bChunk * 8;
  const i64 aSkip = (i64)T::A_STEP * lda, bSkip = (i64)T::B_STEP * ldb;
  int aRows = m - m0 - aRow;
  int bLeft = limit - n0 - (T::BY_ROWS ? bRow : bChunk * 8);

  auto copy = [&](u16* words, int t) {
    int k0 = t * T::BK;
    bool inside = k0 + aChunk * 8 < k;
#pragma unroll
    for (int i = 0; i < T::A_COPIES; i++) {
      bool valid = inside && i * T::A_STEP < aRows;
      copyAsync16(words + tileAt<T::A_CHUNKS>(aRow + i * T::A_STEP, aChunk), valid ? aFrom + i * aSkip + k0 : a, valid ? 16 : 0);
    }
    words += T::A_WORDS;
#pragma unroll
    for (int i = 0; i < T::B_COPIES; i++) {
      bool valid = T::BY_ROWS ? k0 + bChunk * 8 < k && i * T::B_STEP < bLeft
                              : bLeft > 0 && k0 + bRow + i * T::B_STEP < k;
      const u16* from = T::BY_ROWS ? bFrom + i * bSkip + k0 : bFrom + i * bSkip + (i64)k0 * ldb;
      copyAsync16(words + tileAt<T::B_CHUNKS>(bRow + i * T::B_STEP, bChunk), valid ? from : b, valid ? 16 : 0);
    }
  };

  float sums[T::MT][T::NT][4];
  clearSums<T>(sums);
  int count = (k + T::BK - 1) / T::BK;
  multiplyTiles<T>(tiles, count, warpM, warpN, copy, [&](int) { return count; }, sums);

#pragma unroll
  for (int i = 0; i < T::MT; i++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int row = m0 + warpM + i * 16 + lane / 4 + half * 8;
      if (row >= m) continue;
      float* to = c + (i64)row * columns;
#pragma unroll
      for (int j = 0; j < T::NT; j++) {
        int at = n0 + warpN + j * 8 + lane % 4 * 2;
        if (at >= columns) continue;
        float x = unpadded(__fmul_rn(sums[i][j][half * 2], factor), at, n);
        float y = unpadded(__fmul_rn(sums[i][j][half * 2 + 1], factor), at + 1, n);
        *(float2*)(to + at) = make_float2(x, y);
      }
    }
  }
}

#define HALVES_PARAMETERS                                                                                              \
  const u16 *a, int lda, const u16 *b, int ldb, float *c, int m, int n, int columns, int k, int limit, float factor

extern "C" __global__ void __launch_bounds__(256, 1) halves256ByRows(HALVES_PARAMETERS) {
  halvesProduct<Tiles<128, 256, 64, 64, 32, 4, true>>(a, lda, b, ldb, c, m, n, columns, k, limit, factor);
}
extern "C" __global__ void __launch_bounds__(256, 1) halves256ByColumns(HALVES_PARAMETERS) {
  halvesProduct<Tiles<128, 256, 64, 64, 32, 4, false>>(a, lda, b, ldb, c, m, n, columns, k, limit, factor);
}
extern "C" __global__ void __launch_bounds__(128, 2) halves128ByRows(HALVES_PARAMETERS) {
  halvesProduct<Tiles<128, 128, 64, 64, 32, 4, true>>(a, lda, b, ldb, c, m, n, columns, k, limit, factor);
}
extern "C" __global__ void __launch_bounds__(128, 2) halves128ByColumns(HALVES_PARAMETERS) {
  halvesProduct<Tiles<128, 128, 64, 64, 32, 4, false>>(a, lda, b, ldb, c, m, n, columns, k, limit, factor);
}
extern "C" __global__ void __launch_bounds__(128, 3) halves64ByRows(HALVES_PARAMETERS) {
  halvesProduct<Tiles<64, 64, 32, 32, 64, 4, true>>(a, lda, b, ldb, c, m, n, columns, k, limit, factor);
}
extern "C" __global__ void __launch_bounds__(128, 3) halves64ByColumns(HALVES_PARAMETERS) {
  halvesProduct<Tiles<64, 64, 32, 32, 64, 4, false>>(a, lda, b, ldb, c, m, n, columns, k, limit, factor);
}

/**
 * Coefficients as halves for the way back: to[t] = lo[0 … lead), hi[0 … stride) of factor · from[t], hi the nearest half and
 * lo the nearest to what is left. A thread gives 8.
 */
extern "C" __global__ void splitCoefficients(const float* from, int stride, int lead, int tokens, float factor,
                                              u16* to) {
  int chunks = (lead + stride) / 8;
  i64 index = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  i64 t = index / chunks;
  if (t >= tokens) return;
  int at = (int)(index - t * chunks) * 8;
  bool low = at < lead;
  const float4* source = (const float4*)(from + t * stride + (low ? at : at - lead));
  float4 v[2] = {source[0], source[1]};
  float x[8] = {v[0].x, v[0].y, v[0].z, v[0].w, v[1].x, v[1].y, v[1].z, v[1].w};
  u32 words[4];
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    u32 pair = 0;
#pragma unroll
    for (int j = 0; j < 2; j++) {
      float scaled = __fmul_rn(x[i + j], factor);
      u16 bits = floatToHalf(scaled);
      if (low) bits = floatToHalf(__fsub_rn(scaled, halfToFloat(bits)));
      pair |= (u32)bits << (16 * j);
    }
    words[i / 2] = pair;
  }
  *(uint4*)(to + t * (lead + stride) + at) = make_uint4(words[0], words[1], words[2], words[3]);
}

/**
 * The same product of binary32 rows, where b by columns may begin at any half. Tiles have 16 · R rows and columns, 256 threads
 * with R × R sums each; they lie in shared memory by depth, so that a thread reads its rows and columns as vectors of 4.
 */
template <int R, bool BY_ROWS>
__device__ __forceinline__ void floatsProduct(const float* a, int lda, const u16* b, int ldb, float* c, int m, int n,
                                               int columns, int k, int limit) {
  const int TILE = 16 * R, BK = 16, STRIDE = TILE + 4;
  KVZ_SHARED(float, aTiles, 2 * 16 * (16 * R + 4));
  KVZ_SHARED(float, bTiles, 2 * 16 * (16 * R + 4));
  int tid = threadIdx.x, ty = tid / 16, tx = tid % 16;
  int tileRow, tileColumn;
  tileOfBlock((m + TILE - 1) / TILE, (columns + TILE - 1) / TILE, &tileRow, &tileColumn);
  int m0 = tileRow * TILE, n0 = tileColumn * TILE;
  // Of a tile, a thread brings R neighbours along the depth of one row (of a, and of b by rows), or along a row of b.
  int row = tid % TILE, depth = tid / TILE * R;
  int bDepth = tid / 16, bColumn = tid % 16 * R;
  bool aInside = m0 + row < m;
  const float* aFrom = a + (i64)(m0 + row) * lda + depth;
  const u16* bFrom = BY_ROWS ? b + (i64)(n0 + row) * ldb + depth : b + (i64)bDepth * ldb + n0 + bColumn;
  int bLeft = BY_ROWS ? limit - n0 - row : limit - n0 - bColumn;
  bool aligned = (u64)b % 16 == 0;

  float aNext[R];
  u32 bNext[R / 2];
  auto fetch = [&](int k0) {
#pragma unroll
    for (int i = 0; i < R; i += 4) {
      float4 v = make_float4(0, 0, 0, 0);
      if (aInside && k0 + depth + i < k) v = *(const float4*)(aFrom + k0 + i);
      aNext[i] = v.x;
      aNext[i + 1] = v.y;
      aNext[i + 2] = v.z;
      aNext[i + 3] = v.w;
    }
    bool valid = k0 + (BY_ROWS ? depth : bDepth) < k;
    const u16* from = BY_ROWS ? bFrom + k0 : bFrom + (i64)k0 * ldb;
#pragma unroll
    for (int i = 0; i < R / 2; i++) bNext[i] = 0;
    if (BY_ROWS || aligned) {
      if (!valid || bLeft <= 0) return;
      if (R == 8) {
        uint4 v = *(const uint4*)from;
        bNext[0] = v.x, bNext[1] = v.y, bNext[R / 2 - 2] = v.z, bNext[R / 2 - 1] = v.w;
      } else {
        uint2 v = *(const uint2*)from;
        bNext[0] = v.x, bNext[1] = v.y;
      }
    } else {
#pragma unroll
      for (int i = 0; i < R; i++) {
        if (valid && i < bLeft) bNext[i / 2] |= (u32)from[i] << (i % 2 * 16);
      }
    }
  };
  auto store = [&](int slot) {
    float* aTo = aTiles + slot * BK * STRIDE;
    float* bTo = bTiles + slot * BK * STRIDE;
#pragma unroll
    for (int i = 0; i < R; i++) {
      aTo[(depth + i) * STRIDE + row] = aNext[i];
      float value = halfToFloat((u16)(bNext[i / 2] >> (i % 2 * 16)));
      if (BY_ROWS) {
        bTo[(depth + i) * STRIDE + row] = value;
      } else {
        bTo[bDepth * STRIDE + bColumn + i] = value;
      }
    }
  };

  float sums[R][R];
#pragma unroll
  for (int i = 0; i < R; i++) {
#pragma unroll
    for (int j = 0; j < R; j++) sums[i][j] = 0;
  }
  int count = (k + BK - 1) / BK;
  if (count > 0) {
    fetch(0);
    store(0);
  }
  __syncthreads();
  for (int t = 0; t < count; t++) {
    if (t + 1 < count) fetch((t + 1) * BK);
    const float* aAt = aTiles + (t & 1) * BK * STRIDE;
    const float* bAt = bTiles + (t & 1) * BK * STRIDE;
#pragma unroll 8
    for (int d = 0; d < BK; d++) {
      float x[R], y[R];
#pragma unroll
      for (int i = 0; i < R; i += 4) {
        // Groups of 4 lie 64 apart: 16 threads side by side read 64 numbers in a row.
        float4 v = *(const float4*)(aAt + d * STRIDE + ty * 4 + i * 16);
        float4 w = *(const float4*)(bAt + d * STRIDE + tx * 4 + i * 16);
        x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
        y[i] = w.x, y[i + 1] = w.y, y[i + 2] = w.z, y[i + 3] = w.w;
      }
#pragma unroll
      for (int i = 0; i < R; i++) {
#pragma unroll
        for (int j = 0; j < R; j++) sums[i][j] = __fmaf_rn(x[i], y[j], sums[i][j]);
      }
    }
    if (t + 1 < count) store((t + 1) & 1);
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < R; i++) {
    int atRow = m0 + ty * 4 + i / 4 * 64 + i % 4;
    if (atRow >= m) continue;
    float* to = c + (i64)atRow * columns;
#pragma unroll
    for (int j = 0; j < R; j += 4) {
      int at = n0 + tx * 4 + j * 16;
      if (at >= columns) continue;
      *(float4*)(to + at) = make_float4(unpadded(sums[i][j], at, n), unpadded(sums[i][j + 1], at + 1, n),
                                        unpadded(sums[i][j + 2], at + 2, n), unpadded(sums[i][j + 3], at + 3, n));
    }
  }
}

#define FLOATS_PARAMETERS                                                                                              \
  const float *a, int lda, const u16 *b, int ldb, float *c, int m, int n, int columns, int k, int limit

extern "C" __global__ void __launch_bounds__(256, 2) floats128ByRows(FLOATS_PARAMETERS) {
  floatsProduct<8, true>(a, lda, b, ldb, c, m, n, columns, k, limit);
}
extern "C" __global__ void __launch_bounds__(256, 2) floats128ByColumns(FLOATS_PARAMETERS) {
  floatsProduct<8, false>(a, lda, b, ldb, c, m, n, columns, k, limit);
}
extern "C" __global__ void __launch_bounds__(256, 2) floats64ByRows(FLOATS_PARAMETERS) {
  floatsProduct<4, true>(a, lda, b, ldb, c, m, n, columns, k, limit);
}
extern "C" __global__ void __launch_bounds__(256, 2) floats64ByColumns(FLOATS_PARAMETERS) {
  floatsProduct<4, false>(a, lda, b, ldb, c, m, n, columns, k, limit);
}
