// CUDA C++ for g++: what the modules use of the language, every thread of a block a fiber. A test instrument: it shows
// that kernels and the code that drives them are right, not how fast they are. It is stricter than a GPU: barriers that
// some threads miss, masks that name threads which do not come, and accesses outside of a buffer are errors.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>
#include <utility>

// A module lies in an unnamed namespace.
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define KVZ_SHARED(type, name, count)           \
  alignas(16) static type name[count];          \
  static unsigned long long kvzBlockOf_##name;  \
  kvz::enterShared(name, sizeof name, kvzBlockOf_##name)
#define KVZ_DYNAMIC_SHARED(type, name) type* name = (type*)kvz::dynamicShared

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
#define KVZ_VECTORS(T, name)                                                                           \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                                   \
  struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; };                   \
  static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                    \
  static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
KVZ_VECTORS(signed char, char)
KVZ_VECTORS(unsigned char, uchar)
KVZ_VECTORS(short, short)
KVZ_VECTORS(unsigned short, ushort)
KVZ_VECTORS(int, int)
KVZ_VECTORS(unsigned, uint)
KVZ_VECTORS(float, float)
KVZ_VECTORS(long long, longlong)
KVZ_VECTORS(unsigned long long, ulonglong)
KVZ_VECTORS(double, double)

namespace kvz {
// Set before a fiber runs.
extern uint3 thread, block;
extern dim3 blockSize, gridSize;
extern unsigned char* dynamicShared;
// Before a block's first thread uses an array in shared memory: what it has not written is not zero, nor another's.
void enterShared(void* array, size_t bytes, unsigned long long& block);

// What the threads of a warp bring to a function they enter together: combine sees all, the last to come calls it.
typedef void (*Combine)(void** lanes, unsigned mask);
void together(unsigned mask, void* mine, Combine combine, const char* what);
void barrier();
// The number of threads whose value is not 0, and of all.
int barrierCount(int value, int* all);
void yield();
// Copies in the background: done when the thread waits for their group, no sooner.
void copyLater(void* to, const void* from, unsigned bytes);
void commitCopies();
void waitForCopies(int groups);
[[noreturn]] void fail(const char* why);
int lane();
}  // namespace kvz

#define threadIdx (kvz::thread)
#define blockIdx (kvz::block)
#define blockDim (kvz::blockSize)
#define gridDim (kvz::gridSize)
#define warpSize 32

static inline void __syncthreads() { kvz::barrier(); }
static inline int __syncthreads_count(int p) { int all; return kvz::barrierCount(p, &all); }
static inline int __syncthreads_or(int p) { int all; return kvz::barrierCount(p, &all) != 0; }
static inline int __syncthreads_and(int p) { int all; return kvz::barrierCount(p, &all) == all; }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __nanosleep(unsigned) { kvz::yield(); }

// ---- functions of a warp

namespace kvz {
inline void nothing(void**, unsigned) {}

template <class T>
struct Shuffle {
  T value, result;
  int source;
  static void combine(void** lanes, unsigned mask) {
    for (int i = 0; i < 32; i++) {
      if (!(mask >> i & 1)) continue;
      Shuffle* to = (Shuffle*)lanes[i];
      if (!(mask >> to->source & 1)) fail("a shuffle reads a thread that its mask leaves out");
      to->result = ((Shuffle*)lanes[to->source])->value;
    }
  }
};

template <class T>
inline T shuffle(unsigned mask, T value, int source) {
  Shuffle<T> mine{value, value, source};
  together(mask, &mine, Shuffle<T>::combine, "__shfl_sync");
  return mine.result;
}

// All threads get the same fold of their values.
template <class T, class F>
struct Fold {
  T value, result;
  static void combine(void** lanes, unsigned mask) {
    T all = T();
    bool first = true;
    for (int i = 0; i < 32; i++) {
      if (!(mask >> i & 1)) continue;
      T value = ((Fold*)lanes[i])->value;
      all = first ? value : F()(all, value);
      first = false;
    }
    for (int i = 0; i < 32; i++) {
      if (mask >> i & 1) ((Fold*)lanes[i])->result = all;
    }
  }
};

template <class F, class T>
inline T fold(unsigned mask, T value, F) {
  Fold<T, F> mine{value, value};
  together(mask, &mine, Fold<T, F>::combine, "__reduce_sync");
  return mine.result;
}

struct Add { template <class T> T operator()(T a, T b) const { return a + b; } };
struct Least { template <class T> T operator()(T a, T b) const { return a < b ? a : b; } };
struct Most { template <class T> T operator()(T a, T b) const { return a > b ? a : b; } };
struct And { template <class T> T operator()(T a, T b) const { return a & b; } };
struct Or { template <class T> T operator()(T a, T b) const { return a | b; } };
struct Xor { template <class T> T operator()(T a, T b) const { return a ^ b; } };

template <class T>
struct Match {
  T value;
  unsigned result;
  static void combine(void** lanes, unsigned mask) {
    for (int i = 0; i < 32; i++) {
      if (!(mask >> i & 1)) continue;
      Match* to = (Match*)lanes[i];
      to->result = 0;
      for (int j = 0; j < 32; j++) {
        if ((mask >> j & 1) && ((Match*)lanes[j])->value == to->value) to->result |= 1u << j;
      }
    }
  }
};
}  // namespace kvz

static inline void __syncwarp(unsigned mask = 0xffffffffu) {
  char mine = 0;
  kvz::together(mask, &mine, kvz::nothing, "__syncwarp");
}
template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  int lane = kvz::lane(), begin = lane & ~(width - 1);
  return kvz::shuffle(mask, value, begin + (source & (width - 1)));
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = kvz::lane(), begin = lane & ~(width - 1), source = lane - (int)delta;
  return kvz::shuffle(mask, value, source < begin ? lane : source);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = kvz::lane(), end = (lane & ~(width - 1)) + width, source = lane + (int)delta;
  return kvz::shuffle(mask, value, source >= end ? lane : source);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
  int lane = kvz::lane(), end = (lane & ~(width - 1)) + width, source = lane ^ with;
  return kvz::shuffle(mask, value, source >= end ? lane : source);
}
static inline unsigned __ballot_sync(unsigned mask, int p) {
  return kvz::fold(mask, p ? 1u << kvz::lane() : 0u, kvz::Or());
}
static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }
template <class T>
static inline unsigned __match_any_sync(unsigned mask, T value) {
  kvz::Match<T> mine{value, 0};
  kvz::together(mask, &mine, kvz::Match<T>::combine, "__match_any_sync");
  return mine.result;
}
static inline unsigned __reduce_add_sync(unsigned mask, unsigned v) { return kvz::fold(mask, v, kvz::Add()); }
static inline int __reduce_add_sync(unsigned mask, int v) { return (int)kvz::fold(mask, (unsigned)v, kvz::Add()); }
static inline unsigned __reduce_min_sync(unsigned mask, unsigned v) { return kvz::fold(mask, v, kvz::Least()); }
static inline int __reduce_min_sync(unsigned mask, int v) { return kvz::fold(mask, v, kvz::Least()); }
static inline unsigned __reduce_max_sync(unsigned mask, unsigned v) { return kvz::fold(mask, v, kvz::Most()); }
static inline int __reduce_max_sync(unsigned mask, int v) { return kvz::fold(mask, v, kvz::Most()); }
static inline unsigned __reduce_and_sync(unsigned mask, unsigned v) { return kvz::fold(mask, v, kvz::And()); }
static inline unsigned __reduce_or_sync(unsigned mask, unsigned v) { return kvz::fold(mask, v, kvz::Or()); }
static inline unsigned __reduce_xor_sync(unsigned mask, unsigned v) { return kvz::fold(mask, v, kvz::Xor()); }

// ---- numbers

template <class T, class U>
static inline T kvzBits(U value) {
  static_assert(sizeof(T) == sizeof(U), "sizes");
  T out;
  memcpy(&out, &value, sizeof out);
  return out;
}
static inline float __uint_as_float(unsigned v) { return kvzBits<float>(v); }
static inline unsigned __float_as_uint(float v) { return kvzBits<unsigned>(v); }
static inline float __int_as_float(int v) { return kvzBits<float>(v); }
static inline int __float_as_int(float v) { return kvzBits<int>(v); }
static inline long long __double_as_longlong(double v) { return kvzBits<long long>(v); }
static inline double __longlong_as_double(long long v) { return kvzBits<double>(v); }
// The library is compiled without contraction of a product and a sum.
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline int kvzToInt(double v) {
  return v != v ? 0 : v >= 2147483647.0 ? 2147483647 : v <= -2147483648.0 ? (int)0x80000000 : (int)v;
}
static inline int __float2int_rn(float v) { return kvzToInt(rint((double)v)); }
static inline int __float2int_rz(float v) { return kvzToInt(trunc((double)v)); }
static inline int __float2int_rd(float v) { return kvzToInt(floor((double)v)); }
static inline int __float2int_ru(float v) { return kvzToInt(ceil((double)v)); }
static inline unsigned __float2uint_rn(float v) {
  double r = rint((double)v);
  return v != v || r <= 0 ? 0u : r >= 4294967295.0 ? 0xffffffffu : (unsigned)r;
}
static inline float __int2float_rn(int v) { return (float)v; }
static inline float __uint2float_rn(unsigned v) { return (float)v; }
static inline int __double2int_rn(double v) { return kvzToInt(rint(v)); }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz((unsigned)v); }
static inline int __clzll(long long v) { return v == 0 ? 64 : __builtin_clzll((unsigned long long)v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline unsigned __brev(unsigned v) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++) r |= (v >> i & 1) << (31 - i);
  return r;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  unsigned long long both = (unsigned long long)b << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) {
    unsigned pick = s >> (4 * i), byte = (unsigned)(both >> (8 * (pick & 7))) & 255;
    r |= (pick & 8 ? (byte & 128 ? 255u : 0u) : byte) << (8 * i);
  }
  return r;
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)(((unsigned long long)high << 32 | low) >> (shift & 31));
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)(((unsigned long long)high << 32 | low) << (shift & 31) >> 32);
}
#define KVZ_MINMAX(T)                                       \
  static inline T min(T a, T b) { return b < a ? b : a; }   \
  static inline T max(T a, T b) { return a < b ? b : a; }
KVZ_MINMAX(int)
KVZ_MINMAX(unsigned)
KVZ_MINMAX(long long)
KVZ_MINMAX(unsigned long long)
KVZ_MINMAX(unsigned long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }

// ---- memory

template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline T __ldcg(const T* p) { return *p; }
template <class T> static inline void __stcs(T* p, T v) { *p = v; }
template <class T> static inline void __stcg(T* p, T v) { *p = v; }
// Fibers change only where they wait, so that plain updates are atomic.
template <class T, class V> static inline T atomicAdd(T* p, V v) { T old = *p; *p = old + (T)v; return old; }
template <class T, class V> static inline T atomicSub(T* p, V v) { T old = *p; *p = old - (T)v; return old; }
template <class T, class V> static inline T atomicMax(T* p, V v) { T old = *p; if ((T)v > old) *p = (T)v; return old; }
template <class T, class V> static inline T atomicMin(T* p, V v) { T old = *p; if ((T)v < old) *p = (T)v; return old; }
template <class T, class V> static inline T atomicOr(T* p, V v) { T old = *p; *p = old | (T)v; return old; }
template <class T, class V> static inline T atomicAnd(T* p, V v) { T old = *p; *p = old & (T)v; return old; }
template <class T, class V> static inline T atomicXor(T* p, V v) { T old = *p; *p = old ^ (T)v; return old; }
template <class T, class V> static inline T atomicExch(T* p, V v) { T old = *p; *p = (T)v; return old; }
template <class T, class C, class V> static inline T atomicCAS(T* p, C compare, V v) {
  T old = *p;
  if (old == (T)compare) *p = (T)v;
  return old;
}

// ---- twins of the inline PTX in common.cuh

static inline float halfToFloat(unsigned short bits) { return (float)kvzBits<_Float16>(bits); }
static inline unsigned short floatToHalfBits(float value) {
  return value == value ? kvzBits<unsigned short>((_Float16)value) : 0x7fff;
}
static inline unsigned floatsToHalves(float low, float high) {
  return floatToHalfBits(low) | (unsigned)floatToHalfBits(high) << 16;
}

static inline unsigned dotBytes(unsigned a, unsigned b, unsigned sum) {
  for (int i = 0; i < 4; i++) sum += (a >> (8 * i) & 255) * (b >> (8 * i) & 255);
  return sum;
}

namespace kvz {
// Element (row, k) of a and (k, column) of b lie in which lane, register and part: PTX ISA, "mma.m16n8k16", "m16n8k32".
template <class D, class Part, int K>
struct Mma {
  D* d;
  const unsigned *a, *b;
  static D get(const unsigned* word, int part) {
    unsigned bits = word[0] >> (sizeof(Part) * 8 * part);
    if constexpr (sizeof(Part) == 2) return (D)halfToFloat((unsigned short)bits);
    else return (D)(signed char)bits;
  }
  static void combine(void** lanes, unsigned mask) {
    if (mask != 0xffffffffu) fail("mma needs all threads of a warp");
    constexpr int parts = 4 / sizeof(Part), half = K / 2;
    static D a[16][K], b[K][8];
    for (int l = 0; l < 32; l++) {
      Mma* m = (Mma*)lanes[l];
      for (int r = 0; r < 4; r++) {
        for (int p = 0; p < parts; p++) a[l / 4 + 8 * (r & 1)][(l & 3) * parts + p + half * (r >> 1)] = get(m->a + r, p);
      }
      for (int r = 0; r < 2; r++) {
        for (int p = 0; p < parts; p++) b[(l & 3) * parts + p + half * r][l / 4] = get(m->b + r, p);
      }
    }
    for (int l = 0; l < 32; l++) {
      for (int i = 0; i < 4; i++) {
        int row = l / 4 + 8 * (i >> 1), column = (l & 3) * 2 + (i & 1);
        D sum = ((Mma*)lanes[l])->d[i];
        for (int k = 0; k < K; k++) sum += a[row][k] * b[k][column];
        ((Mma*)lanes[l])->d[i] = sum;
      }
    }
  }
};

struct Matrices {
  unsigned* r;
  const unsigned short* row;
  template <bool TRANSPOSED>
  static void combine(void** lanes, unsigned mask) {
    if (mask != 0xffffffffu) fail("ldmatrix needs all threads of a warp");
    for (int l = 0; l < 32; l++) {
      if ((uintptr_t)((Matrices*)lanes[l])->row % 16 != 0) fail("a row of ldmatrix is not aligned to 16 bytes");
      for (int m = 0; m < 4; m++) {
        unsigned short pair[2];
        for (int p = 0; p < 2; p++) {
          int row = TRANSPOSED ? (l & 3) * 2 + p : l / 4, column = TRANSPOSED ? l / 4 : (l & 3) * 2 + p;
          pair[p] = ((Matrices*)lanes[8 * m + row])->row[column];
        }
        ((Matrices*)lanes[l])->r[m] = pair[0] | (unsigned)pair[1] << 16;
      }
    }
  }
};
}  // namespace kvz

static inline void mmaHalf(float d[4], const unsigned a[4], const unsigned b[2]) {
  kvz::Mma<float, unsigned short, 16> mine{d, a, b};
  kvz::together(0xffffffffu, &mine, mine.combine, "mma");
}
static inline void mmaInt8(int d[4], const unsigned a[4], const unsigned b[2]) {
  kvz::Mma<int, signed char, 32> mine{d, a, b};
  kvz::together(0xffffffffu, &mine, mine.combine, "mma");
}
static inline void loadMatrices(unsigned r[4], const void* shared) {
  kvz::Matrices mine{r, (const unsigned short*)shared};
  kvz::together(0xffffffffu, &mine, kvz::Matrices::combine<false>, "ldmatrix");
}
static inline void loadMatricesTransposed(unsigned r[4], const void* shared) {
  kvz::Matrices mine{r, (const unsigned short*)shared};
  kvz::together(0xffffffffu, &mine, kvz::Matrices::combine<true>, "ldmatrix");
}
static inline void copyAsync16(void* shared, const void* global, unsigned bytes = 16) {
  if (((uintptr_t)shared | (uintptr_t)global) % 16 != 0) kvz::fail("cp.async of an address not aligned to 16 bytes");
  // Until somebody waits, whoever reads the place finds NaN.
  memset(shared, 0xff, 16);
  kvz::copyLater(shared, global, bytes);
}
static inline void copyAsyncCommit() { kvz::commitCopies(); }
template <int N> static inline void copyAsyncWait() { kvz::waitForCopies(N); }

// ---- the kernels of a module

namespace kvz {
struct Kernel {
  const char* module;
  const char* name;
  int parameters;
  void (*run)(void** parameters);
  Kernel* next;
};
void add(Kernel* kernel);

template <auto F>
struct Entry;
template <class... A, void (*F)(A...)>
struct Entry<F> {
  template <size_t... I>
  static void call(void** p, std::index_sequence<I...>) { F(*(std::remove_const_t<A>*)p[I]...); }
  static void run(void** p) { call(p, std::index_sequence_for<A...>()); }
  static constexpr int count = sizeof...(A);
};
}  // namespace kvz

// Written by tools/build_cuda_emulator.ts after a module's text, once a kernel.
#define KVZ_KERNEL(module, name)                                                                              \
  static kvz::Kernel kvzKernel_##name{#module, #name, kvz::Entry<name>::count, kvz::Entry<name>::run, nullptr}; \
  __attribute__((constructor)) static void kvzAdd_##name() { kvz::add(&kvzKernel_##name); }
