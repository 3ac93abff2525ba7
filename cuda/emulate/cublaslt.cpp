// A stand-in for cuBLASLt: the calls of src/backend/cuda/cublaslt.ts, their arguments checked as the library would check
// them, products computed plainly. Matrices are column-major. "Device" memory is that of the emulated driver.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define API extern "C" __attribute__((visibility("default"))) int
enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16F = 2, COMPUTE_32F = 68, DESC_TRANSA = 3, PREF_WORKSPACE = 1, PREF_ALIGN_A = 5, PREF_ALIGN_D = 8 };

struct Handle { uint64_t mark; };
struct Operation { int compute, scale, transposed; };
struct Layout { int type; uint64_t rows, columns; int64_t stride; };
struct Preference { uint64_t workspace; uint32_t alignment[4]; };
// cublasLtMatmulHeuristicResult_t.
struct Result { uint64_t algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; };
static_assert(sizeof(Result) == 96, "size of a result");

const uint64_t MARK = 0x6b767a4c74, ALGORITHM = 0x616c676f;
static long long products, live;
static int refusal;

// For tests: products computed, and objects that were not given back.
extern "C" __attribute__((visibility("default"))) long long kvzProducts() { return products; }
extern "C" __attribute__((visibility("default"))) long long kvzObjects() { return live; }

// For tests: the status that cublasLtCreate gives from now on, as on a driver that is too old for the library.
extern "C" __attribute__((visibility("default"))) int kvzRefuse(int status) { return refusal = status; }

template <class T>
static T* make(void** out, T value) {
  live++;
  T* made = (T*)malloc(sizeof(T));
  *made = value;
  *out = made;
  return made;
}
static int drop(void* object) {
  live--;
  free(object);
  return SUCCESS;
}

API cublasLtCreate(void** out) {
  if (refusal == SUCCESS) make(out, Handle{MARK});
  return refusal;
}
API cublasLtDestroy(Handle* handle) { return handle->mark == MARK ? drop(handle) : INVALID_VALUE; }
API cublasLtMatmulDescCreate(void** out, int compute, int scale) { make(out, Operation{compute, scale, 0}); return SUCCESS; }
API cublasLtMatmulDescDestroy(Operation* operation) { return drop(operation); }
API cublasLtMatmulDescSetAttribute(Operation* operation, int attribute, const void* value, size_t bytes) {
  if (attribute != DESC_TRANSA || bytes != 4) return INVALID_VALUE;
  memcpy(&operation->transposed, value, 4);
  return operation->transposed == 0 || operation->transposed == 1 ? SUCCESS : INVALID_VALUE;
}
API cublasLtMatrixLayoutCreate(void** out, int type, uint64_t rows, uint64_t columns, int64_t stride) {
  if (stride < (int64_t)rows) return INVALID_VALUE;
  make(out, Layout{type, rows, columns, stride});
  return SUCCESS;
}
API cublasLtMatrixLayoutDestroy(Layout* layout) { return drop(layout); }
API cublasLtMatmulPreferenceCreate(void** out) { make(out, Preference{0, {256, 256, 256, 256}}); return SUCCESS; }
API cublasLtMatmulPreferenceDestroy(Preference* preference) { return drop(preference); }
API cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t bytes) {
  if (attribute == PREF_WORKSPACE && bytes == 8) {
    memcpy(&preference->workspace, value, 8);
  } else if (attribute >= PREF_ALIGN_A && attribute <= PREF_ALIGN_D && bytes == 4) {
    memcpy(&preference->alignment[attribute - PREF_ALIGN_A], value, 4);
  } else {
    return INVALID_VALUE;
  }
  return SUCCESS;
}

// The sizes of a product, or a status.
static int check(const Operation* operation, const Layout* a, const Layout* b, const Layout* c, const Layout* d,
                 uint64_t* depth) {
  if (operation->compute != COMPUTE_32F || operation->scale != R_32F) return NOT_SUPPORTED;
  if (a->type != R_16F || b->type != R_16F || c->type != R_32F || d->type != R_32F) return NOT_SUPPORTED;
  uint64_t rows = operation->transposed ? a->columns : a->rows;
  *depth = operation->transposed ? a->rows : a->columns;
  bool fit = *depth == b->rows && rows == d->rows && b->columns == d->columns;
  return fit && c->rows == d->rows && c->columns == d->columns ? SUCCESS : INVALID_VALUE;
}

API cublasLtMatmulAlgoGetHeuristic(Handle* handle, Operation* operation, Layout* a, Layout* b, Layout* c, Layout* d,
                                   Preference* preference, int asked, Result* results, int* count) {
  uint64_t depth;
  if (handle->mark != MARK || asked < 1) return INVALID_VALUE;
  *count = 0;
  int status = check(operation, a, b, c, d, &depth);
  if (status != SUCCESS) return status;
  // As in the library: kernels on tensor cores take strides and addresses that are multiples of 16 bytes.
  for (uint32_t alignment : preference->alignment) {
    if (alignment < 16) return NOT_SUPPORTED;
  }
  memset(results, 0, sizeof *results);
  results->algorithm[0] = ALGORITHM;
  results->algorithm[1] = depth;
  results->workspace = preference->workspace;
  *count = 1;
  return SUCCESS;
}

static float half(uint16_t bits) {
  _Float16 value;
  memcpy(&value, &bits, 2);
  return (float)value;
}

API cublasLtMatmul(Handle* handle, Operation* operation, const float* alpha, const uint16_t* a, Layout* aLayout,
                   const uint16_t* b, Layout* bLayout, const float* beta, const float* c, Layout* cLayout, float* d,
                   Layout* dLayout, const uint64_t* algorithm, void* workspace, size_t workspaceBytes, void* stream) {
  uint64_t depth;
  if (handle->mark != MARK || stream == nullptr || *beta != 0 || c != d) return INVALID_VALUE;
  int status = check(operation, aLayout, bLayout, cLayout, dLayout, &depth);
  if (status != SUCCESS) return status;
  if (algorithm[0] != ALGORITHM || algorithm[1] != depth || workspace == nullptr) return INVALID_VALUE;
  memset(workspace, 0xff, workspaceBytes);
  for (uint64_t column = 0; column < dLayout->columns; column++) {
    for (uint64_t row = 0; row < dLayout->rows; row++) {
      float sum = 0;
      for (uint64_t k = 0; k < depth; k++) {
        uint64_t at = operation->transposed ? row * aLayout->stride + k : k * aLayout->stride + row;
        sum += half(a[at]) * half(b[column * bLayout->stride + k]);
      }
      d[column * dLayout->stride + row] = *alpha * sum;
    }
  }
  products++;
  return SUCCESS;
}
