// Between a cache's layout and rows of features: gather, scatter, and the search for numbers that are none. Memory is
// what limits them: every thread takes W elements of a head at a time (with those half a rotation further on), reads and
// writes W at once, and keeps its cosines and sines over several heads.
#include "common.cuh"

// Types of elements: their bits in memory, and float32.
struct F32 {
  typedef float Bits;
  static __device__ __forceinline__ float get(float bits) { return bits; }
  static __device__ __forceinline__ float put(float value) { return value; }
};
struct F16 {
  typedef u16 Bits;
  static __device__ __forceinline__ float get(u16 bits) { return halfToFloat(bits); }
  static __device__ __forceinline__ u16 put(float value) { return floatToHalf(value); }
};
struct Bf16 {
  typedef u16 Bits;
  static __device__ __forceinline__ float get(u16 bits) { return bf16ToFloat(bits); }
  static __device__ __forceinline__ u16 put(float value) { return floatToBf16(value); }
};

// W elements that are moved at once.
template <class Bits, int W>
struct alignas(W * sizeof(Bits)) Pack {
  Bits at[W];
};

template <int W>
__device__ __forceinline__ void loadFloats(const float* __restrict__ from, float to[W]) {
  Pack<float, W> pack = *(const Pack<float, W>*)from;
#pragma unroll
  for (int i = 0; i < W; i++) to[i] = pack.at[i];
}

template <class E, int W>
__device__ __forceinline__ void load(const typename E::Bits* __restrict__ from, float to[W]) {
  Pack<typename E::Bits, W> pack = *(const Pack<typename E::Bits, W>*)from;
#pragma unroll
  for (int i = 0; i < W; i++) to[i] = E::get(pack.at[i]);
}

template <class E, int W>
__device__ __forceinline__ void store(typename E::Bits* __restrict__ to, const float from[W]) {
  Pack<typename E::Bits, W> pack;
#pragma unroll
  for (int i = 0; i < W; i++) pack.at[i] = E::put(from[i]);
  *(Pack<typename E::Bits, W>*)to = pack;
}

// The rotation of W pairs, as Backend.gather defines it.
template <int W>
__device__ __forceinline__ void rotate(float x[W], float y[W], const float c[W], const float s[W]) {
#pragma unroll
  for (int i = 0; i < W; i++) {
    float a = x[i], b = y[i];
    x[i] = __fsub_rn(__fmul_rn(a, c[i]), __fmul_rn(b, s[i]));
    y[i] = __fadd_rn(__fmul_rn(b, c[i]), __fmul_rn(a, s[i]));
  }
}

// What a thread has to do: W elements at `at` of a head of a token, or W pairs (`paired`), in blocks [first, last).
template <int W>
struct Part {
  u32 token, at, first, last;
  bool paired, inside;
  __device__ __forceinline__ Part(u32 blocks, u32 tokens, u32 dim, u32 rotaryDim, u32 blocksPerThread) {
    u32 pairs = rotaryDim / 2 / W, units = pairs + (dim - rotaryDim) / W;
    u32 i = blockIdx.x * blockDim.x + threadIdx.x, unit;
    token = i / units;
    unit = i - token * units;
    inside = token < tokens;
    paired = unit < pairs;
    at = paired ? unit * W : rotaryDim + (unit - pairs) * W;
    first = blockIdx.y * blocksPerThread;
    last = min(blocks, first + blocksPerThread);
  }
};

// W means, or what changes nothing: minus 0 where they are added, 0 where they are subtracted.
template <int W>
__device__ __forceinline__ void loadMeans(const float* __restrict__ mean, float none, float to[W]) {
#pragma unroll
  for (int i = 0; i < W; i++) to[i] = none;
  if (mean != nullptr) loadFloats<W>(mean, to);
}

// Where a thread begins, and how far it is from one head to the next.
template <class Bits>
struct Cursor {
  Bits* at;
  u64 step;
};

template <class E, class R, int W, bool PAIRED>
__device__ __forceinline__ void gatherParts(Cursor<const typename E::Bits> head, Cursor<typename R::Bits> row,
                                            const float* __restrict__ mean, const float* __restrict__ table, u32 half,
                                            u32 heads) {
  float c[W], s[W];
  if (PAIRED) {
    loadFloats<W>(table, c);
    loadFloats<W>(table + half, s);
  }
#pragma unroll (W == 4 ? 2 : 1)
  for (u32 i = 0; i < heads; i++) {
    float x[W], y[W], m[W], n[W];
    load<E, W>(head.at, x);
    if (PAIRED) load<E, W>(head.at + half, y);
    loadMeans<W>(mean, 0.0f, m);
    if (PAIRED) {
      loadMeans<W>(mean == nullptr ? mean : mean + half, 0.0f, n);
      rotate<W>(x, y, c, s);
    }
#pragma unroll
    for (int k = 0; k < W; k++) {
      x[k] = __fsub_rn(x[k], m[k]);
      if (PAIRED) y[k] = __fsub_rn(y[k], n[k]);
    }
    store<R, W>(row.at, x);
    if (PAIRED) store<R, W>(row.at + half, y);
    head.at += head.step;
    row.at += row.step;
    if (mean != nullptr) mean += row.step;
  }
}

template <class R, class E, int W, bool PAIRED>
__device__ __forceinline__ void scatterParts(Cursor<const typename R::Bits> row, Cursor<typename E::Bits> head,
                                             const float* __restrict__ mean, const float* __restrict__ table, u32 half,
                                             u32 heads) {
  float c[W], s[W];
  if (PAIRED) {
    loadFloats<W>(table, c);
    loadFloats<W>(table + half, s);
  }
#pragma unroll (W == 4 ? 2 : 1)
  for (u32 i = 0; i < heads; i++) {
    float x[W], y[W], m[W], n[W];
    load<R, W>(row.at, x);
    if (PAIRED) load<R, W>(row.at + half, y);
    loadMeans<W>(mean, -0.0f, m);
    if (PAIRED) loadMeans<W>(mean == nullptr ? mean : mean + half, -0.0f, n);
#pragma unroll
    for (int k = 0; k < W; k++) {
      x[k] = __fadd_rn(x[k], m[k]);
      if (PAIRED) y[k] = __fadd_rn(y[k], n[k]);
    }
    if (PAIRED) rotate<W>(x, y, c, s);
    store<E, W>(head.at, x);
    if (PAIRED) store<E, W>(head.at + half, y);
    head.at += head.step;
    row.at += row.step;
    if (mean != nullptr) mean += row.step;
  }
}

// src [blocks][tokens][dim] → dst [tokens][stride], zero from blocks · dim on. rotaryDim is 0 without a rotation.
template <class E, class R, int W>
__device__ __forceinline__ void gatherHeads(const typename E::Bits* __restrict__ src, u32 blocks, u32 tokens, u32 dim,
                                            u32 rotaryDim, const float* __restrict__ rotation,
                                            const float* __restrict__ mean, typename R::Bits* __restrict__ dst,
                                            u32 stride, u32 blocksPerThread) {
  Part<W> part(blocks, tokens, dim, rotaryDim, blocksPerThread);
  if (!part.inside) return;
  u32 feature = part.first * dim + part.at, heads = part.last - part.first;
  typename R::Bits* row = dst + (u64)part.token * stride;
  Cursor<const typename E::Bits> from = {src + ((u64)part.first * tokens + part.token) * dim + part.at, (u64)tokens * dim};
  Cursor<typename R::Bits> to = {row + feature, dim};
  if (mean != nullptr) mean += feature;
  const float* table = rotation + (u64)part.token * rotaryDim + part.at;
  if (part.paired) gatherParts<E, R, W, true>(from, to, mean, table, rotaryDim / 2, heads);
  else gatherParts<E, R, W, false>(from, to, mean, table, 0, heads);
  if (part.at == 0 && part.last == blocks) {
    for (u32 f = blocks * dim; f < stride; f++) row[f] = R::put(0.0f);
  }
}

// src [tokens][stride] → dst [blocks][tokens][dim].
template <class R, class E, int W>
__device__ __forceinline__ void scatterHeads(const typename R::Bits* __restrict__ src, u32 stride, u32 blocks, u32 tokens,
                                             u32 dim, u32 rotaryDim, const float* __restrict__ rotation,
                                             const float* __restrict__ mean, typename E::Bits* __restrict__ dst,
                                             u32 blocksPerThread) {
  Part<W> part(blocks, tokens, dim, rotaryDim, blocksPerThread);
  if (!part.inside) return;
  u32 feature = part.first * dim + part.at, heads = part.last - part.first;
  Cursor<const typename R::Bits> from = {src + (u64)part.token * stride + feature, dim};
  Cursor<typename E::Bits> to = {dst + ((u64)part.first * tokens + part.token) * dim + part.at, (u64)tokens * dim};
  if (mean != nullptr) mean += feature;
  const float* table = rotation + (u64)part.token * rotaryDim + part.at;
  if (part.paired) scatterParts<R, E, W, true>(from, to, mean, table, rotaryDim / 2, heads);
  else scatterParts<R, E, W, false>(from, to, mean, table, 0, heads);
}

// One kernel an element type, kind of rows and W: 4 where dim is a multiple of 4, rotaryDim of 8, and 1 elsewhere.
#define GATHER(name, E, R, W)                                                                                          \
  extern "C" __global__ void __launch_bounds__(256) name(                                                              \
      const E::Bits* __restrict__ src, u32 blocks, u32 tokens, u32 dim, u32 rotaryDim,                                 \
      const float* __restrict__ rotation, const float* __restrict__ mean, R::Bits* __restrict__ dst, u32 stride,       \
      u32 blocksPerThread) {                                                                                           \
    gatherHeads<E, R, W>(src, blocks, tokens, dim, rotaryDim, rotation, mean, dst, stride, blocksPerThread);           \
  }
#define SCATTER(name, R, E, W)                                                                                         \
  extern "C" __global__ void __launch_bounds__(256) name(                                                              \
      const R::Bits* __restrict__ src, u32 stride, u32 blocks, u32 tokens, u32 dim, u32 rotaryDim,                     \
      const float* __restrict__ rotation, const float* __restrict__ mean, E::Bits* __restrict__ dst,                   \
      u32 blocksPerThread) {                                                                                           \
    scatterHeads<R, E, W>(src, stride, blocks, tokens, dim, rotaryDim, rotation, mean, dst, blocksPerThread);          \
  }

GATHER(gather_f32_4, F32, F32, 4)
GATHER(gather_f32_1, F32, F32, 1)
GATHER(gather_f16_4, F16, F32, 4)
GATHER(gather_f16_1, F16, F32, 1)
GATHER(gather_bf16_4, Bf16, F32, 4)
GATHER(gather_bf16_1, Bf16, F32, 1)
GATHER(gatherHalf_f32_4, F32, F16, 4)
GATHER(gatherHalf_f32_1, F32, F16, 1)
GATHER(gatherHalf_f16_4, F16, F16, 4)
GATHER(gatherHalf_f16_1, F16, F16, 1)
GATHER(gatherHalf_bf16_4, Bf16, F16, 4)
GATHER(gatherHalf_bf16_1, Bf16, F16, 1)
SCATTER(scatter_f32_4, F32, F32, 4)
SCATTER(scatter_f32_1, F32, F32, 1)
SCATTER(scatter_f16_4, F32, F16, 4)
SCATTER(scatter_f16_1, F32, F16, 1)
SCATTER(scatter_bf16_4, F32, Bf16, 4)
SCATTER(scatter_bf16_1, F32, Bf16, 1)

// found = min(found, index of the first word of `src` with an element that is NaN or infinite, in elements). `exponent`
// is the exponent field of an element, in each half of a word where elements have 16 bits (`perWord` 2).
extern "C" __global__ void __launch_bounds__(256) findNonFinite(const u32* __restrict__ src, u64 elements, u32 exponent,
                                                                u32 perWord, u32* found) {
  u64 words = (elements + perWord - 1) / perWord, vectors = (words + 3) / 4;
  u64 least = ~0ull;
  for (u64 v = (u64)blockIdx.x * blockDim.x + threadIdx.x; v < vectors; v += (u64)gridDim.x * blockDim.x) {
    // Blocks of memory are whole vectors: at the end of the last one what is not elements is left out below.
    uint4 four = ((const uint4*)src)[v];
    u32 word[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      u64 at = (v * 4 + i) * perWord;
      bool low = perWord == 2 ? (word[i] & exponent & 0xffff) == (exponent & 0xffff) : (word[i] & exponent) == exponent;
      bool high = perWord == 2 && (word[i] & exponent & 0xffff0000) == (exponent & 0xffff0000);
      if (low && at < elements) least = min(least, at);
      if (high && at + 1 < elements) least = min(least, at + 1);
    }
  }
  u32 first = __reduce_min_sync(ALL_LANES, least < 0xffffffffull ? (u32)least : 0xffffffffu);
  if (threadIdx.x % 32 == 0 && first != 0xffffffffu) atomicMin(found, first);
}
