/**
 * The loop of a product on tensor cores: tiles of a and b come to shared memory by asynchronous copies, several under way,
 * and each warp multiplies its part of them. Elements are counted as 16-bit words (a word of bytes is two of them).
 */
#pragma once
#include "common.cuh"

/** Where chunk `chunk` (8 words, 16 bytes) of row `row` lies in a tile with rows of CHUNKS chunks: ldmatrix meets no bank twice. */
template <int CHUNKS>
__device__ __forceinline__ int tileAt(int row, int chunk) {
  int turn = CHUNKS >= 8 ? row & 7 : row >> 1 & 3;
  return (row * CHUNKS + (chunk ^ turn)) * 8;
}

/** Tiles that share rows of a follow each other in groups of 16 rows, so that both operands stay in the cache. */
__device__ __forceinline__ void tileOfBlock(int rows, int columns, int* row, int* column) {
  const int GROUP = 16;
  int block = blockIdx.x;
  int group = block / (GROUP * columns);
  int height = min(GROUP, rows - group * GROUP);
  int rest = block - group * GROUP * columns;
  *row = group * GROUP + rest % height;
  *column = rest / height;
}

__device__ __forceinline__ void multiplyParts(float (&d)[4], const u32* a, const u32* b) { mmaHalf(d, a, b); }
__device__ __forceinline__ void multiplyParts(i32 (&d)[4], const u32* a, const u32* b) { mmaInt8(d, a, b); }

/**
 * Sizes: BM × BN sums a block, WM × WN a warp, BK words deep, STAGES tiles in shared memory. B_ROWS_: a row of the tile of b is
 * one column of the product, BK words deep; else a row is one depth, BN words long (halves only).
 */
template <int BM_, int BN_, int WM_, int WN_, int BK_, int STAGES_, bool BY_ROWS_>
struct Tiles {
  static const int BM = BM_, BN = BN_, WM = WM_, WN = WN_, BK = BK_, STAGES = STAGES_;
  static const bool BY_ROWS = BY_ROWS_;
  static const int THREADS = BM / WM * (BN / WN) * 32;
  static const int A_WORDS = BM * BK, STAGE = A_WORDS + BK * BN;
  static const int A_CHUNKS = BK / 8, B_CHUNKS = BY_ROWS ? BK / 8 : BN / 8;
  /** Rows between the chunks that a thread copies, and how many there are. */
  static const int A_STEP = THREADS / A_CHUNKS, A_COPIES = BM / A_STEP;
  static const int B_STEP = THREADS / B_CHUNKS, B_COPIES = (BY_ROWS ? BN : BK) / B_STEP;
  static const int MT = WM / 16, NT = WN / 8, STEPS = BK / 16;
};

/**
 * sums += a · b over `count` tiles. `copy(words, t)` starts the copies of tile t to `words`; `begin(t)` is called before the
 * products of tile 0 and returns before which tile to call it next (within the loop its work would be predicated). A sum [i][j][2 h + e] is that of row 16 i + 8 h + lane / 4, column 8 j + 2 (lane mod 4) + e of the warp's part.
 */
template <class T, class Sum, class Copy, class Begin>
__device__ __forceinline__ void multiplyTiles(u16* tiles, int count, int warpM, int warpN, Copy copy, Begin begin,
                                               Sum (&sums)[T::MT][T::NT][4]) {
  int lane = threadIdx.x & 31;
  u32 aPart[2][T::MT][4], bPart[2][T::NT / 2][4];
  auto loadParts = [&](int part, int slot, int step) {
    const u16* at = tiles + slot * T::STAGE;
#pragma unroll
    for (int i = 0; i < T::MT; i++) {
      int row = warpM + i * 16 + (lane & 15);
      loadMatrices(aPart[part][i], at + tileAt<T::A_CHUNKS>(row, step * 2 + (lane >> 4)));
    }
    at += T::A_WORDS;
#pragma unroll
    for (int j = 0; j < T::NT / 2; j++) {
      int first = warpN + j * 16;
      if (T::BY_ROWS) {
        int row = first + (lane & 7) + (lane >> 4) * 8;
        loadMatrices(bPart[part][j], at + tileAt<T::B_CHUNKS>(row, step * 2 + (lane >> 3 & 1)));
      } else {
        int row = step * 16 + (lane & 15);
        loadMatricesTransposed(bPart[part][j], at + tileAt<T::B_CHUNKS>(row, first / 8 + (lane >> 4)));
      }
    }
  };

  for (int s = 0; s < T::STAGES - 1; s++) {
    if (s < count) copy(tiles + s * T::STAGE, s);
    copyAsyncCommit();
  }
  copyAsyncWait<T::STAGES - 2>();
  __syncthreads();
  loadParts(0, 0, 0);
  int slot = 0;
  int t = 0;
  while (t < count) {
    int stop = begin(t);
    for (; t < stop; t++) {
      int freeSlot = slot == 0 ? T::STAGES - 1 : slot - 1;
#pragma unroll
      for (int step = 0; step < T::STEPS; step++) {
        if (step < T::STEPS - 1) {
          loadParts((step + 1) & 1, slot, step + 1);
        } else {
          // The next tile has come, and nobody reads from this one any more: the copies of the next round go there.
          copyAsyncWait<T::STAGES - 2>();
          __syncthreads();
          slot = slot + 1 == T::STAGES ? 0 : slot + 1;
          loadParts((step + 1) & 1, slot, 0);
        }
        if (step == 0) {
          int next = t + T::STAGES - 1;
          if (next < count) copy(tiles + freeSlot * T::STAGE, next);
          copyAsyncCommit();
        }
#pragma unroll
        for (int i = 0; i < T::MT; i++) {
#pragma unroll
          for (int j = 0; j < T::NT; j++) {
            multiplyParts(sums[i][j], aPart[step & 1][i], bPart[step & 1][j / 2] + j % 2 * 2);
          }
        }
      }
    }
  }
}

template <class T, class Sum>
__device__ __forceinline__ void clearSums(Sum (&sums)[T::MT][T::NT][4]) {
#pragma unroll
  for (int i = 0; i < T::MT; i++) {
#pragma unroll
    for (int j = 0; j < T::NT; j++) {
#pragma unroll
      for (int e = 0; e < 4; e++) sums[i][j][e] = 0;
    }
  }
}
