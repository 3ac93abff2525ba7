// Matrix products with a basis of binary16 rows, in float32, for any shape.
#include "common.cuh"

constexpr u32 TILE = 16;

// to[t][c] = Σ_i from[t][i] · B(i, c), i ascending; columns from `columns` to `toStride` are zero. B(i, c) is
// basis[i · step + c · jump].
extern "C" __global__ void __launch_bounds__(256) multiply(const float* __restrict__ from, u32 fromStride, u32 tokens,
                                                           u32 length, const u16* __restrict__ basis, u32 step, u32 jump,
                                                           float* __restrict__ to, u32 columns, u32 toStride) {
  KVZ_SHARED(float, a, TILE * (TILE + 1));
  KVZ_SHARED(float, b, TILE * (TILE + 1));
  u32 x = threadIdx.x % TILE, y = threadIdx.x / TILE, t = blockIdx.x * TILE + y, c = blockIdx.y * TILE + x;
  float sum = 0.0f;
  for (u32 k = 0; k < length; k += TILE) {
    a[y * (TILE + 1) + x] = t < tokens && k + x < length ? from[(u64)t * fromStride + k + x] : 0.0f;
    b[y * (TILE + 1) + x] = c < columns && k + y < length ? halfToFloat(basis[(u64)(k + y) * step + (u64)c * jump]) : 0.0f;
    __syncthreads();
    for (u32 i = 0; i < TILE; i++) sum = __fmaf_rn(a[y * (TILE + 1) + i], b[i * (TILE + 1) + x], sum);
    __syncthreads();
  }
  if (t < tokens && c < toStride) to[(u64)t * toStride + c] = c < columns ? sum : 0.0f;
}
