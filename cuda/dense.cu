// A dense layer in one order of rounding: out[r][j] = f(Σ_i rows[r][i] · weights[i][j] + bias[j]), sums from the first i to the
// last, each product and each sum rounded by itself (src/stages/transform/dense.ts). A block gives 64 rows × 64 columns,
// a thread 4 × 4; 16 rows of weights and as many columns of rows lie in shared memory at a time.
#include "common.cuh"

__device__ __forceinline__ void add(float4& sum, float x, const float4& w) {
  sum.x = __fadd_rn(sum.x, __fmul_rn(x, w.x));
  sum.y = __fadd_rn(sum.y, __fmul_rn(x, w.y));
  sum.z = __fadd_rn(sum.z, __fmul_rn(x, w.z));
  sum.w = __fadd_rn(sum.w, __fmul_rn(x, w.w));
}

__device__ __forceinline__ float finish(float sum, float bias, float slope) {
  float value = __fadd_rn(sum, bias);
  return value < 0 ? __fmul_rn(value, slope) : value;
}

// `depth` and `columns` in vectors of four: of a row, and of a row of results.
extern "C" __global__ void __launch_bounds__(256) denseLayer(const float4* rows, const float4* weights, const float4* bias, u32 count, u32 depth, u32 columns, float slope, float4* out) {
  // [row][16 of the depth], and four floats more, so that rows lie in other banks; [16 of the depth][16 vectors].
  KVZ_SHARED(float4, rowsTile, 64 * 5);
  KVZ_SHARED(float4, weightsTile, 16 * 16);
  const u32 id = threadIdx.x, own = id / 16 * 4, column = id % 16;
  const u32 firstRow = blockIdx.x * 64, firstColumn = blockIdx.y * 16;
  float4 sums[4];
#pragma unroll
  for (int i = 0; i < 4; i++) sums[i] = make_float4(0, 0, 0, 0);
  for (u32 at = 0; at < depth; at += 4) {
    __syncthreads();
    const u32 row = firstRow + id / 4, part = at + id % 4, k = 4 * at + id / 16;
    float4 x = make_float4(0, 0, 0, 0), w = x;
    if (row < count && part < depth) x = rows[(u64)row * depth + part];
    if (k < 4 * depth && firstColumn + column < columns) w = weights[(u64)k * columns + firstColumn + column];
    rowsTile[id / 4 * 5 + id % 4] = x;
    weightsTile[id] = w;
    __syncthreads();
    // What lies beyond the depth is zero and leaves every sum as it is: none is −0.
#pragma unroll
    for (u32 v = 0; v < 4; v++) {
      const float4* y = weightsTile + 64 * v + column;
#pragma unroll
      for (u32 i = 0; i < 4; i++) {
        const float4 a = rowsTile[(own + i) * 5 + v];
        add(sums[i], a.x, y[0]);
        add(sums[i], a.y, y[16]);
        add(sums[i], a.z, y[32]);
        add(sums[i], a.w, y[48]);
      }
    }
  }
  if (firstColumn + column >= columns) return;
  const float4 b = bias[firstColumn + column];
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    const u32 row = firstRow + own + i;
    if (row >= count) return;
    const float4 s = sums[i];
    out[(u64)row * columns + firstColumn + column] = make_float4(
        finish(s.x, b.x, slope), finish(s.y, b.y, slope), finish(s.z, b.z, slope), finish(s.w, b.w, slope));
  }
}
