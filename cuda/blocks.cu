// ggml's blocks of 32 values, q8_0 and q4_0, as src/stages/quantize/ggml_blocks.ts defines them: every operation rounded to
// float32. A warp a block, a thread a value.
#include "common.cuh"

__device__ __forceinline__ float inverseOf(float scale) { return scale == 0.0f ? 0.0f : __fdiv_rn(1.0f, scale); }

// f32 [blocks][32] → a binary16 scale and 32 int8 each.
extern "C" __global__ void __launch_bounds__(256) quantizeQ8(const float* x, u32 blocks, u8* out) {
  const u32 block = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (block >= blocks) return;
  const float value = x[(u64)block * 32 + lane];
  float most = fabsf(value);
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, step));
  const float scale = __fdiv_rn(most, 127.0f), inverse = inverseOf(scale);
  u8* to = out + (u64)block * 34;
  if (lane == 0) *(u16*)to = floatToHalf(scale);
  // Half away from zero: what is left of the whole part is exact. Of a scale too small for an inverse all codes are 0.
  const float product = __fmul_rn(value, inverse), whole = truncf(product);
  const i32 away = fabsf(__fsub_rn(product, whole)) >= 0.5f ? (product < 0.0f ? -1 : 1) : 0;
  to[2 + lane] = inverse == __uint_as_float(0x7f800000) ? 0 : (u8)((i32)whole + away);
}

// f32 [blocks][32] → a binary16 scale and 16 bytes each: value i in the low half of byte i, i + 16 in the high.
extern "C" __global__ void __launch_bounds__(256) quantizeQ4(const float* x, u32 blocks, u8* out) {
  const u32 block = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (block >= blocks) return;
  const float value = x[(u64)block * 32 + lane];
  float most = fabsf(value);
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, step));
  // The first of the largest magnitude, with its sign; zero has none.
  const u32 largest = __ballot_sync(ALL_LANES, fabsf(value) == most);
  const float extreme = __fadd_rn(__shfl_sync(ALL_LANES, value, __ffs((int)largest) - 1), 0.0f);
  const float scale = __fdiv_rn(extreme, -8.0f), inverse = inverseOf(scale);
  u8* to = out + (u64)block * 18;
  if (lane == 0) *(u16*)to = floatToHalf(scale);
  // NaN, of zero times an infinite inverse, and what is below it become 0.
  const float shifted = __fadd_rn(__fmul_rn(value, inverse), 8.5f);
  const u32 code = shifted >= 1.0f ? (u32)fminf(shifted, 15.0f) : 0;
  const u32 high = __shfl_xor_sync(ALL_LANES, code, 16);
  if (lane < 16) to[2 + lane] = (u8)(code | high << 4);
}

// The inverse of quantizeQ8.
extern "C" __global__ void __launch_bounds__(256) dequantizeQ8(const u8* coded, u32 blocks, float* x) {
  const u32 block = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (block >= blocks) return;
  const u8* from = coded + (u64)block * 34;
  x[(u64)block * 32 + lane] = __fmul_rn(halfToFloat(*(const u16*)from), (float)(i8)from[2 + lane]);
}

// The inverse of quantizeQ4.
extern "C" __global__ void __launch_bounds__(256) dequantizeQ4(const u8* coded, u32 blocks, float* x) {
  const u32 block = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (block >= blocks) return;
  const u8* from = coded + (u64)block * 18;
  const i32 code = from[2 + lane % 16] >> (lane / 16 * 4) & 15;
  x[(u64)block * 32 + lane] = __fmul_rn(halfToFloat(*(const u16*)from), (float)(code - 8));
}
