// What every CUDA module shares: plain integer names, shared memory that the emulator can give, conversions whose bits
// src/cache/elements.ts and src/backend/reference/e4m3.ts define, and the few instructions that CUDA C++ has no function
// for. The only file with inline PTX; each such function has a twin for the emulator (cuda/emulate/device.h).
//
// Rules for modules: `extern "C" __global__` before every kernel, in one line with its name; this the only include; a
// __syncthreads is reached by all threads of the block; the mask of a warp function names threads that all come.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;

#ifdef KVZ_EMULATE
#include "emulate/device.h"
#else
// A static array of a block; the emulator runs one block after another.
#define KVZ_SHARED(type, name, count) __shared__ __align__(16) type name[count]
// The block's dynamic shared memory, 16-byte aligned.
#define KVZ_DYNAMIC_SHARED(type, name)                      \
  extern __shared__ __align__(16) unsigned char kvzShared[]; \
  type* name = (type*)kvzShared
#endif

constexpr u32 ALL_LANES = 0xffffffffu;

#ifndef KVZ_EMULATE
// The float32 of binary16 bits, exact.
__device__ __forceinline__ float halfToFloat(u16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// Nearest even, too large values to infinity; NaN as the instruction gives it.
__device__ __forceinline__ u16 floatToHalfBits(float value) {
  u16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

// Two at once: `low` in the low half.
__device__ __forceinline__ u32 floatsToHalves(float low, float high) {
  u32 bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// sum + the products of the four unsigned bytes of a and b. (NVRTC has no body for __dp4a.)
__device__ __forceinline__ u32 dotBytes(u32 a, u32 b, u32 sum) {
  u32 result;
  asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

// d (16 × 8, f32) += a (16 × 16, f16, row-major) · b (16 × 8, f16, column-major): fragments as PTX defines them.
__device__ __forceinline__ void mmaHalf(float d[4], const u32 a[4], const u32 b[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d (16 × 8, i32) += a (16 × 32, i8, row-major) · b (32 × 8, i8, column-major).
__device__ __forceinline__ void mmaInt8(i32 d[4], const u32 a[4], const u32 b[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ u32 sharedAddress(const void* shared) {
  return (u32)__cvta_generic_to_shared(shared);
}

// Four 8 × 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned).
__device__ __forceinline__ void loadMatrices(u32 r[4], const void* shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(sharedAddress(shared)) : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void loadMatricesTransposed(u32 r[4], const void* shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(sharedAddress(shared)) : "memory");
}

// Copies 16 bytes, both sides aligned, in the background; the first `bytes` (0 to 16) from memory, the rest zero.
__device__ __forceinline__ void copyAsync16(void* shared, const void* global, u32 bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(shared)), "l"(global), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void copyAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `N` committed groups of this thread are on their way.
template <int N>
__device__ __forceinline__ void copyAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#endif

// Binary16 bits of a float32, nearest even; NaN becomes the quiet NaN with its sign, as everywhere in kvz.
__device__ __forceinline__ u16 floatToHalf(float value) {
  return value == value ? floatToHalfBits(value) : (u16)((__float_as_uint(value) >> 16 & 0x8000) | 0x7e00);
}

__device__ __forceinline__ float bf16ToFloat(u16 bits) { return __uint_as_float((u32)bits << 16); }

// Bfloat16 bits of a float32, nearest even; NaN stays NaN.
__device__ __forceinline__ u16 floatToBf16(float value) {
  u32 bits = __float_as_uint(value);
  u32 rounded = bits + 0x7fff + (bits >> 16 & 1);
  return (u16)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded >> 16);
}

// The value of an E4M3 code.
__device__ __forceinline__ float e4m3ToFloat(u32 code) {
  // The code's exponent and fraction are those of a float32 that is 2^120 smaller, subnormals too.
  float magnitude = __fmul_rn(__uint_as_float((code & 0x7f) << 20), __uint_as_float(247u << 23));
  if ((code & 0x7f) == 0x7f) return __uint_as_float(0x7fc00000);
  return code & 0x80 ? -magnitude : magnitude;
}

// The E4M3 code nearest to a float32, ties to even, saturating at ±448; NaN gives 0x7f.
__device__ __forceinline__ u32 floatToE4m3(float value) {
  u32 bits = __float_as_uint(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7f;
  u32 sign = bits >> 24 & 0x80;
  float magnitude = fminf(fabsf(value), 448.0f);
  // Below 2^-6 units of 2^-9; 8 of them are the code of 2^-6.
  if (magnitude < 0.015625f) return sign | (u32)__float2int_rn(__fmul_rn(magnitude, 512.0f));
  bits = __float_as_uint(magnitude);
  return sign | ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120u << 3);
}
