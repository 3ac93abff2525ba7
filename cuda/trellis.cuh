// The trellis and its side information, as src/stages/quantize/trellis/*.ts define them.
#pragma once
#include "common.cuh"

constexpr u32 MODES = 5;
constexpr u32 ENERGIES = 3;
constexpr u32 TOKEN_KINDS = 16;
// Symbols of levels outside of their table, odd and even.
constexpr u32 ESCAPE_ODD = 254;
constexpr u32 MAX_LEVEL = 1u << 24;

// Next state by state and parity: 0:{0,4} 1:{6,2} 2:{4,0} 3:{2,6} 4:{1,5} 5:{7,3} 6:{5,1} 7:{3,7}, a nibble each.
__device__ __forceinline__ u32 nextState(u32 state, u32 parity) {
  u32 table = state & 4 ? 0x73153751u : 0x62042640u;
  return table >> ((state & 3) << 3 | parity << 2) & 7;
}

__device__ __forceinline__ i32 tokenClass(i32 base, i32 offset, i32 energy) {
  return min(63, max(0, base + offset + 2 * energy - 2));
}

__device__ __forceinline__ i32 predict(i32 rho32, i32 reference) { return (rho32 * reference + 16) >> 5; }

// Reconstruction of a level in steps.
__device__ __forceinline__ i32 reconstruct(i32 level, u32 quantizer) {
  return 2 * level - (quantizer ? (level > 0) - (level < 0) : 0);
}

__device__ __forceinline__ u32 zigzag(i32 level) { return level > 0 ? 2 * level - 1 : -2 * level; }

// A token's word: reference (−1: none), mode, energy.
__device__ __forceinline__ i32 refOf(u32 word) { return (i16)(word & 0xffff); }
__device__ __forceinline__ u32 modeOf(u32 word) { return word >> 16 & 255; }
__device__ __forceinline__ u32 energyOf(u32 word) { return word >> 24; }
// Mode and energy, within the kinds whatever the word holds.
__device__ __forceinline__ u32 kindOf(u32 word) { return (ENERGIES * modeOf(word) + energyOf(word)) & (TOKEN_KINDS - 1); }
__device__ __forceinline__ u32 wordOf(i32 ref, u32 mode, u32 energy) { return (ref & 0xffff) | mode << 16 | energy << 24; }

// Bytes of a LEB128 number.
__device__ __forceinline__ u32 lebBytes(u32 value) {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : 4;
}

// Exclusive prefix sum over the lanes of a warp; `total` is the sum of all.
__device__ __forceinline__ u32 warpPrefix(u32 value, u32& total) {
  u32 lane = threadIdx.x & 31, sum = value;
  for (u32 step = 1; step < 32; step *= 2) {
    u32 other = __shfl_up_sync(ALL_LANES, sum, step);
    if (lane >= step) sum += other;
  }
  total = __shfl_sync(ALL_LANES, sum, 31);
  return sum - value;
}
