// Rotation and uniform quantization of groups in an array [outer][length][inner], as src/stages/quantize/uniform.ts defines
// them: every operation rounded to float32. Parameters: scale in the low half of a word, zero in the high.
#include "common.cuh"

// The Walsh–Hadamard transform of rows of n, a power of two up to 2048, in place. A block takes 2048 numbers.
extern "C" __global__ void __launch_bounds__(256) hadamardRows(float* x, u32 count, u32 n, float scale) {
  KVZ_SHARED(float, tile, 2048);
  const u32 first = blockIdx.x * 2048;
  for (u32 i = threadIdx.x; i < 2048; i += 256) tile[i] = first + i < count ? x[first + i] : 0.0f;
  for (u32 half = 1; half < n; half *= 2) {
    __syncthreads();
    for (u32 pair = threadIdx.x; pair < 1024; pair += 256) {
      const u32 at = (pair & ~(half - 1)) * 2 + (pair & (half - 1));
      const float a = tile[at], b = tile[at + half];
      tile[at] = __fadd_rn(a, b);
      tile[at + half] = __fsub_rn(a, b);
    }
  }
  __syncthreads();
  for (u32 i = threadIdx.x; i < 2048; i += 256) {
    if (first + i < count) x[first + i] = __fmul_rn(tile[i], scale);
  }
}

__device__ __forceinline__ u32 parametersOf(float low, float high, float top, float least) {
  // + 0: a zero has no sign.
  const float range = halfToFloat(floatToHalf(__fadd_rn(__fsub_rn(high, low), 0.0f)));
  return floatToHalf(__fdiv_rn(fmaxf(range, least), top)) | (u32)floatToHalf(__fadd_rn(low, 0.0f)) << 16;
}

__device__ __forceinline__ u8 codeOf(float x, u32 bits, float top) {
  const float scale = halfToFloat((u16)bits), zero = halfToFloat((u16)(bits >> 16));
  if (scale == 0.0f) return 0;
  return (u8)__float2int_rn(fminf(fmaxf(__fdiv_rn(__fsub_rn(x, zero), scale), 0.0f), top));
}

// Groups whose values lie `inner` apart: a thread each. The values are finite.
extern "C" __global__ void __launch_bounds__(256) quantizeColumns(const float* x, u32 count, u32 length, u32 inner, u32 group, float top, float least, u8* codes, u32* params) {
  const u32 id = blockIdx.x * 256 + threadIdx.x;
  if (id >= count) return;
  const u32 groups = (length + group - 1) / group, g = id / inner % groups;
  const u64 at = ((u64)(id / inner / groups) * length + (u64)g * group) * inner + id % inner;
  const u32 size = min(group, length - g * group);
  float low = x[at], high = low;
  for (u32 i = 1; i < size; i++) {
    const float value = x[at + (u64)i * inner];
    low = fminf(low, value);
    high = fmaxf(high, value);
  }
  const u32 bits = parametersOf(low, high, top, least);
  params[id] = bits;
  for (u32 i = 0; i < size; i++) codes[at + (u64)i * inner] = codeOf(x[at + (u64)i * inner], bits, top);
}

// Groups whose values lie side by side: a warp each.
extern "C" __global__ void __launch_bounds__(256) quantizeRuns(const float* x, u32 count, u32 length, u32 group, float top, float least, u8* codes, u32* params) {
  const u32 id = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (id >= count) return;
  const u32 groups = (length + group - 1) / group, g = id % groups;
  const u64 at = (u64)(id / groups) * length + (u64)g * group;
  const u32 size = min(group, length - g * group);
  float low = __uint_as_float(0x7f800000), high = -low;
  u32 odd = 0;
  for (u32 i = lane; i < size; i += 32) {
    const float value = x[at + i];
    low = fminf(low, value);
    high = fmaxf(high, value);
    odd |= value != value;
  }
  for (int step = 16; step > 0; step /= 2) {
    low = fminf(low, __shfl_xor_sync(ALL_LANES, low, step));
    high = fmaxf(high, __shfl_xor_sync(ALL_LANES, high, step));
    odd |= __shfl_xor_sync(ALL_LANES, odd, step);
  }
  // A rotation that overflows may leave NaN, which minimum and maximum pass over.
  const u32 bits = odd ? 0x7e007e00u : parametersOf(low, high, top, least);
  if (lane == 0) params[id] = bits;
  for (u32 i = lane; i < size; i += 32) codes[at + i] = codeOf(x[at + i], bits, top);
}

// Codes back to values: a thread each.
extern "C" __global__ void __launch_bounds__(256) dequantizeGroups(const u8* codes, const u32* params, u32 count, u32 length, u32 inner, u32 group, float* x) {
  const u32 id = blockIdx.x * 256 + threadIdx.x;
  if (id >= count) return;
  const u32 groups = (length + group - 1) / group, row = id / inner;
  const u32 bits = params[(row / length * groups + row % length / group) * inner + id % inner];
  x[id] = __fadd_rn(__fmul_rn((float)codes[id], halfToFloat((u16)bits)), halfToFloat((u16)(bits >> 16)));
}
