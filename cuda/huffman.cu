// Products of Huffman-coded vectors with weights, straight from the codes (src/stages/entropy/huffman_blocks.ts). A thread
// block takes a coded block, up to 64 vectors of up to 128 symbols: codes, decoding table and weights go to shared memory,
// then each thread decodes a vector and multiplies as it goes. Sums run in the order of the symbols in float32.
#include "common.cuh"

// A block has at most 8192 bytes, which begin anywhere in a word; a damaged vector may read 240 bytes behind them.
constexpr u32 CODE_WORDS = 2049 + 64;
// Words of two 16-bit entries: 1024 by the next 10 bits, 16 limits and 16 bases by length, 256 symbols.
constexpr u32 TABLE_WORDS = 656;

struct Coded {
  const u32* codes;
  // Two words a block: where it begins; its bytes, and in the upper half its flags.
  const u32* blocks;
  const u16* vectors;
  const u32* table;
  // Of the first head: its first block and vector of this part; then from head to head, and from one block of tokens to
  // the next.
  u32 block, vector, headBlocks, headVectors, blockStride, vectorStride;
  // Vectors of a block, symbols of a vector, symbols of the alphabet.
  u32 count, length, alphabet;
  // Sets of weights of a head: 1, or one a block of tokens.
  u32 sets;
  const float* weights;
  float* out;
  u32* status;
};

// Length · 256 + symbol of the code that the next 15 bits begin with.
__device__ __forceinline__ u32 find(const u16* table, u32 window) {
  u32 found = table[window >> 5];
  if (found) return found;
  const u16 *limits = table + 1024, *bases = limits + 16, *symbols = bases + 16;
  u32 size = 11;
  while (window >= limits[size]) size++;
  return size << 8 | symbols[(bases[size] + (window >> (15 - size))) & 0xffff];
}

template <int lanes>
__device__ __forceinline__ void dots(const Coded& c) {
  KVZ_SHARED(u32, words, CODE_WORDS);
  KVZ_SHARED(u32, tableWords, TABLE_WORDS);
  KVZ_SHARED(float, weights, 512);
  const u32 head = blockIdx.y, tokens = blockIdx.x, t = threadIdx.x;
  const u32* entry = c.blocks + 2 * (c.block + head * c.headBlocks + tokens * c.blockStride);
  const u32 begin = entry[0], bytes = entry[1] & 0xffff;
  const u32 skip = begin & 3, wanted = (skip + bytes + 3) / 4;
  // The first byte on top, so that bits follow each other from word to word.
  for (u32 i = t; i < wanted + 62; i += 64) {
    words[i] = i < wanted ? __byte_perm(c.codes[begin / 4 + i], 0, 0x0123) : 0;
  }
  for (u32 i = t; i < TABLE_WORDS; i += 64) tableWords[i] = c.table[i];
  const u32 set = c.sets == 1 ? head : head * c.sets + tokens;
  for (u32 i = t; i < c.length * lanes; i += 64) weights[i] = c.weights[(u64)set * c.length * lanes + i];
  __syncthreads();
  if (t >= c.count) return;
  const u16* infos = c.vectors + c.vector + head * c.headVectors + tokens * c.vectorStride;
  const u32 from = t == 0 ? 0 : (infos[t - 1] >> 3) + 1, info = infos[t];
  float sums[lanes];
#pragma unroll
  for (int lane = 0; lane < lanes; lane++) sums[lane] = 0;
  bool bad = false;
  if (entry[1] >> 16) {
    for (u32 n = 0; n < c.length; n++) {
      const u32 at = skip + from + n, symbol = words[at / 4] >> (24 - 8 * (at & 3)) & 255;
      bad |= symbol >= c.alphabet;
#pragma unroll
      for (int lane = 0; lane < lanes; lane++) sums[lane] = sums[lane] + (float)symbol * weights[n * lanes + lane];
    }
  } else {
    const u16* table = (const u16*)tableWords;
    const u32 first = 8 * (skip + from);
    u32 bit = first;
    for (u32 n = 0; n < c.length; n += 2) {
      u32 window = __funnelshift_l(words[bit / 32 + 1], words[bit / 32], bit & 31);
      // 32 bits are enough for two codes.
      for (u32 i = n; i < n + 2 && i < c.length; i++) {
        const u32 found = find(table, window >> 17), symbol = found & 255;
        window <<= found >> 8;
        bit += found >> 8;
#pragma unroll
        for (int lane = 0; lane < lanes; lane++) sums[lane] = sums[lane] + (float)symbol * weights[i * lanes + lane];
      }
    }
    bad = bit - first != 8 * ((info >> 3) + 1 - from) - (info & 7);
  }
  if (bad) *c.status = 1;
  float* to = c.out + ((u64)(head * gridDim.x + tokens) * c.count + t) * lanes;
#pragma unroll
  for (int lane = 0; lane < lanes; lane++) to[lane] = sums[lane];
}

#define DOTS_PARAMETERS                                                                                            \
  const u32 *codes, const u32 *blocks, const u16 *vectors, const u32 *table, u32 block, u32 vector, u32 headBlocks, \
      u32 headVectors, u32 blockStride, u32 vectorStride, u32 count, u32 length, u32 alphabet, u32 sets,           \
      const float *weights, float *out, u32 *status
#define DOTS_ARGUMENTS                                                                                              \
  { codes, blocks, vectors, table, block, vector, headBlocks, headVectors, blockStride, vectorStride, count, length, \
    alphabet, sets, weights, out, status }

extern "C" __global__ void __launch_bounds__(64) dots1(DOTS_PARAMETERS) { dots<1>(Coded DOTS_ARGUMENTS); }
extern "C" __global__ void __launch_bounds__(64) dots4(DOTS_PARAMETERS) { dots<4>(Coded DOTS_ARGUMENTS); }
