// The part of the CUDA driver API that src/backend/cuda calls, over the emulated machine: work is done when a call
// returns, but its errors come back later, as on a GPU. A buffer ends where a page that cannot be touched begins.
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <map>
#include <string>
#include <time.h>

namespace kvz {
const char* run(void (*entry)(void**), void** values, dim3 grid, dim3 size, size_t sharedBytes);
static Kernel* kernels;
void add(Kernel* kernel) {
  kernel->next = kernels;
  kernels = kernel;
}
}  // namespace kvz

typedef int Result;
typedef unsigned long long Pointer;
enum {
  SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
  INVALID_PTX = 218, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700, INVALID_HANDLE = 400, LAUNCH_FAILED = 719,
};

// What tests set, by kvzEmulate.
static struct {
  long long driverVersion = 12000, devices = 1, capability = 0, memory = 1ll << 32, failAfter = -1,
            failWith = ILLEGAL_ADDRESS, busy = 0, pools = 1, init = SUCCESS, poolError = SUCCESS;
} machine;

// Major and minor part of the compute capability in one number: 86 is 8.6.
static int capability() {
  if (machine.capability != 0) return (int)machine.capability;
  const char* named = getenv("KVZ_EMULATED_CAPABILITY");
  return named == nullptr ? 90 : (int)(atof(named) * 10 + 0.5);
}

// Shared memory that a block may have when it asks (CUDA C++ Programming Guide, "Compute Capabilities").
static long long mostShared() {
  switch (capability()) {
    case 80: case 87: return 163 << 10;
    case 86: case 89: case 120: case 121: return 99 << 10;
    default: return 227 << 10;
  }
}
// That of a block that does not ask.
constexpr long long UNASKED_SHARED = 48 << 10;

static Result lost;
static void* context;
static int contextUsers;
static std::map<Pointer, size_t> allocations;
static std::map<void*, size_t> hostBlocks;
static long long allocated, objects, launches;

#define API extern "C" __attribute__((visibility("default"))) Result
#define ALIVE                                    \
  if (lost != 0) return lost;                    \
  if (context == nullptr) return INVALID_CONTEXT

// ---- for tests

// "driverVersion", "devices", "capability" (86 is 8.6; 0: what KVZ_EMULATED_CAPABILITY says, or 9.0), "memory" (bytes),
// "failAfter" (launches; -1 never), "failWith" (an error code), "busy" (how often an event says that it is not ready),
// "pools" (0: none), "init" and "poolError" (what cuInit and cuMemPoolCreate give); "reset" ends a lost state. Returns -1
// for an unknown name.
extern "C" __attribute__((visibility("default"))) int kvzEmulate(const char* name, long long value) {
  std::string n = name;
  if (n == "driverVersion") machine.driverVersion = value;
  else if (n == "devices") machine.devices = value;
  else if (n == "capability") machine.capability = value;
  else if (n == "memory") machine.memory = value;
  else if (n == "failAfter") machine.failAfter = value;
  else if (n == "failWith") machine.failWith = value;
  else if (n == "busy") machine.busy = value;
  else if (n == "pools") machine.pools = value;
  else if (n == "init") machine.init = value;
  else if (n == "poolError") machine.poolError = value;
  else if (n == "reset") lost = 0;
  else return -1;
  return 0;
}

// "bytes" and "buffers" on the device, "objects" (contexts, modules, streams, events, pools, pinned blocks), "launches".
extern "C" __attribute__((visibility("default"))) long long kvzEmulated(const char* name) {
  std::string n = name;
  if (n == "bytes") return allocated;
  if (n == "buffers") return (long long)allocations.size();
  if (n == "objects") return objects;
  if (n == "launches") return launches;
  return -1;
}

// ---- devices and contexts

API cuInit(unsigned) { return (Result)machine.init; }
API cuDriverGetVersion(int* version) { *version = (int)machine.driverVersion; return SUCCESS; }
API cuDeviceGetCount(int* count) { *count = (int)machine.devices; return SUCCESS; }
API cuDeviceGet(int* device, int ordinal) {
  if (ordinal < 0 || ordinal >= machine.devices) return INVALID_DEVICE;
  *device = ordinal;
  return SUCCESS;
}
API cuDeviceGetName(char* name, int length, int) { snprintf(name, (size_t)length, "emulated"); return SUCCESS; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 16: *value = 2; return SUCCESS;                      // multiprocessors
    case 75: *value = capability() / 10; return SUCCESS;      // compute capability
    case 76: *value = capability() % 10; return SUCCESS;
    case 97: *value = (int)mostShared(); return SUCCESS;      // shared memory of a block, by choice
    case 115: *value = (int)machine.pools; return SUCCESS;    // memory pools
    default: return INVALID_VALUE;
  }
}
API cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = (size_t)machine.memory; return SUCCESS; }
API cuDevicePrimaryCtxRetain(void** out, int) {
  static char primary;
  if (contextUsers++ == 0) objects++;
  *out = &primary;
  return SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int) {
  if (contextUsers == 0) return INVALID_CONTEXT;
  if (--contextUsers > 0) return SUCCESS;
  objects--;
  context = nullptr;
  // The last user takes the context with it, its errors and all that was not given back.
  if (lost != 0) {
    for (auto [pointer, size] : allocations) allocated -= (long long)size;
    allocations.clear();
    objects = 0;
    lost = 0;
  }
  return SUCCESS;
}
API cuCtxSetCurrent(void* to) { context = to; return SUCCESS; }
API cuMemGetInfo_v2(size_t* free, size_t* total) {
  ALIVE;
  *free = (size_t)(machine.memory - allocated);
  *total = (size_t)machine.memory;
  return SUCCESS;
}

// ---- modules: texts of tools/build_cuda.ts, for whose names the host has functions

struct Function {
  kvz::Kernel* kernel;
  // Bytes of shared memory of its own, and of dynamic one that it may have; most threads of a block.
  long long own, dynamic;
  unsigned threads;
};
struct Module { std::string name, text; std::map<std::string, Function> functions; };

// What PTX says of a kernel: .maxntid, and its variables in shared memory, each as if it began at a multiple of 16.
static Function describe(const std::string& text, size_t entry, kvz::Kernel* kernel) {
  size_t end = text.find(".entry ", entry + 1);
  std::string body = text.substr(entry, end == std::string::npos ? end : end - entry);
  Function function{kernel, 0, 0, 1024};
  size_t most = body.find(".maxntid ");
  if (most != std::string::npos) function.threads = (unsigned)atoi(body.c_str() + most + 9);
  for (size_t at = body.find(".shared .align "); at != std::string::npos; at = body.find(".shared .align ", at + 1)) {
    int align, bits, count = 1;
    char name[512];
    sscanf(body.c_str() + at, ".shared .align %d .%*c%d %511[^[;][%d]", &align, &bits, name, &count);
    function.own += (bits / 8 * (long long)count + 15) / 16 * 16;
  }
  function.dynamic = UNASKED_SHARED - function.own;
  return function;
}

API cuModuleLoadDataEx(void** module, const char* text, unsigned, const int*, void**) {
  ALIVE;
  const char mark[] = "// kvz module ";
  if (strncmp(text, mark, sizeof mark - 1) != 0 || strstr(text, ".target sm_80") == nullptr) return INVALID_PTX;
  const char* name = text + sizeof mark - 1;
  *module = new Module{std::string(name, strcspn(name, "\n")), text};
  objects++;
  return SUCCESS;
}
API cuModuleUnload(void* module) {
  ALIVE;
  delete (Module*)module;
  objects--;
  return SUCCESS;
}
API cuModuleGetFunction(void** function, void* module, const char* name) {
  ALIVE;
  Module* m = (Module*)module;
  size_t entry = m->text.find(std::string(".entry ") + name + "(");
  if (entry == std::string::npos) return NOT_FOUND;
  for (kvz::Kernel* k = kvz::kernels; k != nullptr; k = k->next) {
    if (m->name != k->module || strcmp(k->name, name) != 0) continue;
    *function = &m->functions.try_emplace(name, describe(m->text, entry, k)).first->second;
    return SUCCESS;
  }
  return NOT_FOUND;
}
API cuFuncSetAttribute(void* handle, int attribute, int value) {
  ALIVE;
  Function* function = (Function*)handle;
  // Most dynamic shared memory.
  if (attribute != 8 || value < 0 || value + function->own > mostShared()) return INVALID_VALUE;
  function->dynamic = value;
  return SUCCESS;
}
API cuLaunchKernel(void* handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void*, void** parameters, void**) {
  ALIVE;
  if (gx == 0 || gy == 0 || gz == 0 || bx == 0 || by == 0 || bz == 0) return INVALID_VALUE;
  if (gx > 0x7fffffff || gy > 65535 || gz > 65535 || bx > 1024 || by > 1024 || bz > 64) return INVALID_VALUE;
  Function* function = (Function*)handle;
  if ((size_t)bx * by * bz > function->threads || shared > function->dynamic) return INVALID_VALUE;
  launches++;
  if (machine.failAfter >= 0 && machine.failAfter-- == 0) {
    lost = (Result)machine.failWith;
    return SUCCESS;
  }
  kvz::Kernel* kernel = function->kernel;
  const char* why = kvz::run(kernel->run, parameters, {gx, gy, gz}, {bx, by, bz}, shared);
  if (why != nullptr) {
    fprintf(stderr, "emulated CUDA: kernel %s of module %s: %s\n", kernel->name, kernel->module, why);
    lost = strstr(why, "access") ? ILLEGAL_ADDRESS : LAUNCH_FAILED;
  }
  return SUCCESS;
}

// ---- memory

static size_t pages(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

API cuMemAlloc_v2(Pointer* pointer, size_t bytes) {
  ALIVE;
  if (bytes == 0) return INVALID_VALUE;
  if (allocated + (long long)bytes > machine.memory) return OUT_OF_MEMORY;
  size_t room = (bytes + 15) / 16 * 16, length = pages(room) + 4096;
  unsigned char* map = (unsigned char*)mmap(nullptr, length, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return OUT_OF_MEMORY;
  mprotect(map + length - 4096, 4096, PROT_NONE);
  unsigned char* at = map + length - 4096 - room;
  memset(at, 0xff, room < 1 << 22 ? room : 1 << 22);
  *pointer = (Pointer)at;
  allocations[*pointer] = bytes;
  allocated += (long long)bytes;
  return SUCCESS;
}
API cuMemFree_v2(Pointer pointer) {
  ALIVE;
  auto found = allocations.find(pointer);
  if (found == allocations.end()) return INVALID_VALUE;
  size_t room = (found->second + 15) / 16 * 16;
  munmap((void*)(pointer + room - pages(room)), pages(room) + 4096);
  allocated -= (long long)found->second;
  allocations.erase(found);
  return SUCCESS;
}
API cuMemPoolCreate(void** pool, const void*) {
  ALIVE;
  if (machine.poolError != SUCCESS) return (Result)machine.poolError;
  *pool = malloc(1);
  objects++;
  return SUCCESS;
}
API cuMemPoolDestroy(void* pool) { ALIVE; free(pool); objects--; return SUCCESS; }
API cuMemPoolSetAttribute(void*, int, void*) { ALIVE; return SUCCESS; }
API cuMemAllocFromPoolAsync(Pointer* pointer, size_t bytes, void*, void*) { return cuMemAlloc_v2(pointer, bytes); }
API cuMemFreeAsync(Pointer pointer, void*) { return cuMemFree_v2(pointer); }

static bool within(Pointer pointer, size_t bytes) {
  auto after = allocations.upper_bound(pointer);
  if (after == allocations.begin()) return false;
  auto [begin, size] = *--after;
  return pointer + bytes <= begin + size;
}
API cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, void*) {
  ALIVE;
  if (!within(to, bytes)) return INVALID_VALUE;
  memcpy((void*)to, from, bytes);
  return SUCCESS;
}
API cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, void*) {
  ALIVE;
  if (!within(from, bytes)) return INVALID_VALUE;
  memcpy(to, (void*)from, bytes);
  return SUCCESS;
}
API cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void*) {
  ALIVE;
  if (!within(to, bytes) || !within(from, bytes)) return INVALID_VALUE;
  memcpy((void*)to, (void*)from, bytes);
  return SUCCESS;
}
API cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, void*) {
  ALIVE;
  if (!within(to, bytes)) return INVALID_VALUE;
  memset((void*)to, value, bytes);
  return SUCCESS;
}
API cuMemHostAlloc(void** out, size_t bytes, unsigned) {
  ALIVE;
  void* block = mmap(nullptr, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return OUT_OF_MEMORY;
  hostBlocks[*out = block] = pages(bytes);
  objects++;
  return SUCCESS;
}
API cuMemFreeHost(void* block) {
  ALIVE;
  auto found = hostBlocks.find(block);
  if (found == hostBlocks.end()) return INVALID_VALUE;
  // Whoever still reads it meets a fault.
  munmap(block, found->second);
  hostBlocks.erase(found);
  objects--;
  return SUCCESS;
}

// ---- streams and events

API cuStreamCreate(void** stream, unsigned) { ALIVE; *stream = malloc(1); objects++; return SUCCESS; }
API cuStreamDestroy_v2(void* stream) { ALIVE; free(stream); objects--; return SUCCESS; }
API cuStreamSynchronize(void*) { ALIVE; return SUCCESS; }

struct Event { double milliseconds; long long busy; };
static std::map<void*, Event> events;
#define EVENT(name, handle)                           \
  auto name = events.find(handle);                    \
  if (name == events.end()) return INVALID_HANDLE

API cuEventCreate(void** event, unsigned) {
  ALIVE;
  events[*event = malloc(1)] = {};
  objects++;
  return SUCCESS;
}
API cuEventDestroy_v2(void* event) {
  ALIVE;
  EVENT(found, event);
  events.erase(found);
  free(event);
  objects--;
  return SUCCESS;
}
API cuEventRecord(void* event, void*) {
  ALIVE;
  EVENT(found, event);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  found->second = {now.tv_sec * 1e3 + now.tv_nsec / 1e6, machine.busy};
  return SUCCESS;
}
API cuEventQuery(void* event) {
  ALIVE;
  EVENT(found, event);
  return found->second.busy-- > 0 ? NOT_READY : SUCCESS;
}
API cuEventSynchronize(void* event) {
  ALIVE;
  EVENT(found, event);
  return SUCCESS;
}
API cuEventElapsedTime(float* milliseconds, void* begin, void* end) {
  ALIVE;
  EVENT(first, begin);
  EVENT(last, end);
  *milliseconds = (float)(last->second.milliseconds - first->second.milliseconds);
  return SUCCESS;
}
