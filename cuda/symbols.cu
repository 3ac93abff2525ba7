// Counts of symbols, and symbols between the layout of a chunk (a row for each token) and that of streams.
#include "common.cuh"

// Rows of few tokens: a warp a row, counters in shared memory. counts [rows][alphabet].
extern "C" __global__ void __launch_bounds__(256) histogramRows(
    const u8* symbols, u32 rows, u32 tokens, u32 alphabet, u32* counts) {
  KVZ_SHARED(u32, all, 8 * 256);
  const u32 lane = threadIdx.x & 31, warps = blockDim.x >> 5;
  u32* own = all + (threadIdx.x >> 5) * 256;
  for (u32 row = blockIdx.x * warps + (threadIdx.x >> 5); row < rows; row += gridDim.x * warps) {
    for (u32 i = lane; i < 256; i += 32) own[i] = 0;
    __syncwarp();
    const u8* from = symbols + (u64)row * tokens;
    if (tokens % 4 == 0) {
      for (u32 t = lane; t < tokens / 4; t += 32) {
        const u32 four = ((const u32*)from)[t];
        atomicAdd(own + (four & 255), 1u);
        atomicAdd(own + (four >> 8 & 255), 1u);
        atomicAdd(own + (four >> 16 & 255), 1u);
        atomicAdd(own + (four >> 24), 1u);
      }
    } else {
      for (u32 t = lane; t < tokens; t += 32) atomicAdd(own + from[t], 1u);
    }
    __syncwarp();
    for (u32 i = lane; i < alphabet; i += 32) counts[(u64)row * alphabet + i] = own[i];
    __syncwarp();
  }
}

// Rows of many tokens: a block for 65,536 of them, which adds to the row's counts.
extern "C" __global__ void __launch_bounds__(256) histogramLong(
    const u8* symbols, u32 rows, u32 tokens, u32 parts, u32 alphabet, u32* counts) {
  KVZ_SHARED(u32, all, 8 * 256);
  u32* own = all + (threadIdx.x >> 5) * 256;
  const u64 items = (u64)rows * parts;
  for (u64 item = blockIdx.x; item < items; item += gridDim.x) {
    for (u32 i = threadIdx.x; i < 8 * 256; i += blockDim.x) all[i] = 0;
    __syncthreads();
    const u32 row = (u32)(item / parts), begin = (u32)(item % parts) << 16;
    const u32 end = min(tokens, begin + 65536);
    const u8* from = symbols + (u64)row * tokens;
    // Whole words within; the ends byte by byte.
    const u32 skew = (u32)(((u64)row * tokens + begin) & 3), head = min(end, begin + (4 - skew) % 4);
    const u32 words = (end - head) / 4, tail = head + words * 4;
    for (u32 i = threadIdx.x; i < words; i += blockDim.x) {
      const u32 four = ((const u32*)(from + head))[i];
      atomicAdd(own + (four & 255), 1u);
      atomicAdd(own + (four >> 8 & 255), 1u);
      atomicAdd(own + (four >> 16 & 255), 1u);
      atomicAdd(own + (four >> 24), 1u);
    }
    if (threadIdx.x < head - begin) atomicAdd(own + from[begin + threadIdx.x], 1u);
    if (threadIdx.x < end - tail) atomicAdd(own + from[tail + threadIdx.x], 1u);
    __syncthreads();
    for (u32 s = threadIdx.x; s < alphabet; s += blockDim.x) {
      u32 sum = 0;
      for (u32 w = 0; w < 8; w++) sum += all[w * 256 + s];
      if (sum != 0) atomicAdd(counts + (u64)row * alphabet + s, sum);
    }
    __syncthreads();
  }
}

constexpr u32 SIDE = 64;
constexpr u32 PITCH = SIDE / 4 + 1;

// Four words of four bytes each, transposed.
__device__ __forceinline__ void transpose4(u32 w[4]) {
  const u32 a = __byte_perm(w[0], w[1], 0x5140), b = __byte_perm(w[2], w[3], 0x5140);
  const u32 c = __byte_perm(w[0], w[1], 0x7362), d = __byte_perm(w[2], w[3], 0x7362);
  w[0] = __byte_perm(a, b, 0x5410);
  w[1] = __byte_perm(a, b, 0x7632);
  w[2] = __byte_perm(c, d, 0x5410);
  w[3] = __byte_perm(c, d, 0x7632);
}

// Bytes [0, count) of a row as a word: at once where words are aligned, else one by one.
__device__ __forceinline__ u32 loadFour(const u8* from, u32 count, bool words) {
  if (words && count >= 4) return *(const u32*)from;
  u32 four = 0;
  for (u32 i = 0; i < count && i < 4; i++) four |= (u32)from[i] << 8 * i;
  return four;
}

__device__ __forceinline__ void storeFour(u8* to, u32 count, bool words, u32 four) {
  if (words && count >= 4) {
    *(u32*)to = four;
    return;
  }
  for (u32 i = 0; i < count && i < 4; i++) to[i] = (u8)(four >> 8 * i);
}

// Transposes a matrix of bytes [height][width]: from rows of `fromStride` to rows of `toStride` bytes, a block of 256
// threads for a square of 64.
__device__ __forceinline__ void transposeSquare(
    const u8* from, u64 fromStride, u32 height, u32 width, u8* to, u64 toStride, bool fromWords, bool toWords) {
  KVZ_SHARED(u32, square, SIDE * PITCH);
  const u32 i = threadIdx.x & 15, j = threadIdx.x >> 4;
  u32 four[4];
  for (u32 k = 0; k < 4; k++) {
    const u32 y = 4 * j + k;
    four[k] = y < height && 4 * i < width ? loadFour(from + y * fromStride + 4 * i, width - 4 * i, fromWords) : 0;
  }
  transpose4(four);
  for (u32 k = 0; k < 4; k++) square[(4 * i + k) * PITCH + j] = four[k];
  __syncthreads();
  for (u32 k = 0; k < 4; k++) {
    const u32 x = 16 * k + j;
    if (x < width && 4 * i < height) storeFour(to + x * toStride + 4 * i, height - 4 * i, toWords, square[x * PITCH + i]);
  }
  __syncthreads();
}

// Columns of symbols [tokens][stride], from `column0` on → [chunks][rows][chunk tokens], from byte `begin` of `to` on.
// Squares of a chunk: `down` over tokens, `across` over rows.
extern "C" __global__ void __launch_bounds__(256) transposeSymbols(
    const u8* symbols, u32 stride, u32 tokens, u32 rows, u32 chunk, u32 down, u32 across, u32 chunks, u8* to,
    u32 column0, u64 begin) {
  const bool fromWords = (stride | column0) % 4 == 0, toWords = (chunk | tokens | begin) % 4 == 0;
  symbols += column0, to += begin;
  const u64 items = (u64)chunks * down * across;
  for (u64 item = blockIdx.x; item < items; item += gridDim.x) {
    const u32 column = (u32)(item % across) * SIDE, y = (u32)(item / across % down) * SIDE;
    const u32 first = (u32)(item / across / down) * chunk, length = min(chunk, tokens - first);
    if (y >= length) continue;
    transposeSquare(symbols + (u64)(first + y) * stride + column, stride, length - y, rows - column,
                    to + (u64)first * rows + (u64)column * length + y, length, fromWords, toWords);
  }
}

// The inverse; bytes from `rows` to the stride stay as they are.
extern "C" __global__ void __launch_bounds__(256) untransposeSymbols(
    const u8* from, u32 stride, u32 tokens, u32 rows, u32 chunk, u32 down, u32 across, u32 chunks, u8* symbols) {
  const bool fromWords = (chunk | tokens) % 4 == 0, toWords = stride % 4 == 0;
  const u64 items = (u64)chunks * down * across;
  for (u64 item = blockIdx.x; item < items; item += gridDim.x) {
    const u32 column = (u32)(item % across) * SIDE, y = (u32)(item / across % down) * SIDE;
    const u32 first = (u32)(item / across / down) * chunk, length = min(chunk, tokens - first);
    if (y >= length) continue;
    transposeSquare(from + (u64)first * rows + (u64)column * length + y, length, rows - column, length - y,
                    symbols + (u64)(first + y) * stride + column, stride, fromWords, toWords);
  }
}
