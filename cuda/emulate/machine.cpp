// Runs the blocks of a launch, every thread a fiber with a stack of its own, on the calling thread of the host.
#include "device.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <vector>

#ifndef __x86_64__
#error "the emulator switches fibers on x86-64 only"
#endif

// Saves the callee's registers and the stack pointer in *from, and takes up the stack of `to`.
extern "C" void kvzSwitch(void** from, void* to);
asm(R"(
.text
.globl kvzSwitch
kvzSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace kvz {

uint3 thread, block;
dim3 blockSize, gridSize;
unsigned char* dynamicShared;

namespace {

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  unsigned bytes;
};

constexpr size_t STACK = 128 << 10;
// Dynamic shared memory ends where nothing can be accessed.
constexpr size_t MOST_SHARED = 1 << 20;
unsigned char* const sharedEnd = [] {
  void* map = mmap(nullptr, MOST_SHARED + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unsigned char* end = (unsigned char*)map + MOST_SHARED;
  mprotect(end, 4096, PROT_NONE);
  return end;
}();
enum State { READY, TOGETHER, BARRIER, DONE };

struct Fiber {
  State state;
  unsigned char* stack;
  void* stackPointer;
  uint3 index;
  // What it waits for.
  unsigned mask;
  void* mine;
  Combine combine;
  const char* what;
  int value;
  // Its copies in the background: groups, the last one not yet committed.
  std::vector<std::vector<Copy>> copies;
};

std::vector<Fiber> fibers;
std::vector<unsigned char*> freeStacks;
Fiber* current;
void* scheduler;
void (*kernel)(void**);
void** parameters;
int barrierTrue, barrierAll;
char reason[256];
sigjmp_buf failure;
// Blocks run so far.
unsigned long long blocks;
thread_local volatile bool running;

void finish() {
  kernel(parameters);
  current->state = DONE;
  void* nowhere;
  kvzSwitch(&nowhere, scheduler);
}

void start(Fiber& fiber) {
  if (freeStacks.empty()) {
    freeStacks.push_back((unsigned char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  }
  fiber.stack = freeStacks.back();
  freeStacks.pop_back();
  void** top = (void**)(fiber.stack + STACK);
  *--top = nullptr;  // finish does not return; keeps the stack aligned as after a call
  *--top = (void*)finish;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber.stackPointer = top;
}

void resume(Fiber& fiber) {
  if (fiber.stack == nullptr) start(fiber);
  current = &fiber;
  thread = fiber.index;
  kvzSwitch(&scheduler, fiber.stackPointer);
  if (fiber.state == DONE) {
    freeStacks.push_back(fiber.stack);
    fiber.stack = nullptr;
  }
}

void wait(State state) {
  Fiber* mine = current;
  mine->state = state;
  kvzSwitch(&mine->stackPointer, scheduler);
}

// Runs a warp until all its threads are done or at a barrier.
void runWarp(size_t begin, size_t end) {
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t i = begin; i < end; i++) {
      if (fibers[i].state != READY) continue;
      resume(fibers[i]);
      moved = true;
    }
  }
  for (size_t i = begin; i < end; i++) {
    if (fibers[i].state == TOGETHER) fail(fibers[i].what);
  }
}

void runBlock() {
  size_t n = fibers.size();
  for (Fiber& fiber : fibers) {
    fiber.state = READY;
    fiber.copies.assign(1, {});
  }
  for (;;) {
    for (size_t w = 0; w < n; w += 32) runWarp(w, w + 32 < n ? w + 32 : n);
    size_t waiting = 0;
    barrierTrue = 0;
    for (Fiber& fiber : fibers) {
      if (fiber.state != BARRIER) continue;
      waiting++;
      barrierTrue += fiber.value != 0;
    }
    if (waiting == 0) return;
    if (waiting != n) fail("a barrier that some threads of the block do not reach");
    barrierAll = (int)n;
    for (Fiber& fiber : fibers) fiber.state = READY;
  }
}

struct sigaction oldSegv, oldBus;

void breakOff() { siglongjmp(failure, 1); }

void onFault(int signal, siginfo_t* info, void* context) {
  if (running) {
    snprintf(reason, sizeof reason, "an access outside of every buffer (or of its alignment)");
    // Jumping from here would keep the handler's protection keys, under which the engine cannot read its own code: the
    // kernel of the system is to restore the thread's as the handler returns, into the jump.
    greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
    registers[REG_RSP] = ((registers[REG_RSP] - 256) & ~15ll) - 8;
    registers[REG_RIP] = (greg_t)breakOff;
    return;
  }
  // Another thread's fault: the engine's own business.
  struct sigaction& old = signal == SIGSEGV ? oldSegv : oldBus;
  if (old.sa_flags & SA_SIGINFO) old.sa_sigaction(signal, info, context);
  else sigaction(signal, &old, nullptr);
}

}  // namespace

void enterShared(void* array, size_t bytes, unsigned long long& block) {
  if (block == blocks) return;
  block = blocks;
  memset(array, 0xff, bytes);
}

int lane() { return (int)((current - fibers.data()) & 31); }

void fail(const char* why) {
  snprintf(reason, sizeof reason, "%s, thread (%u, %u, %u) of block (%u, %u, %u)", why, current->index.x,
           current->index.y, current->index.z, block.x, block.y, block.z);
  siglongjmp(failure, 1);
}

void yield() {
  // Ready again when its warp has had its turn.
  wait(READY);
}

void together(unsigned mask, void* mine, Combine combine, const char* what) {
  if (!(mask >> lane() & 1)) fail("a warp function whose mask leaves out the thread that calls it");
  Fiber* warp = fibers.data() + ((current - fibers.data()) & ~31);
  current->mask = mask;
  current->mine = mine;
  current->combine = combine;
  current->what = what;
  void* lanes[32];
  for (int i = 0; i < 32; i++) {
    if (!(mask >> i & 1)) continue;
    if (warp + i >= fibers.data() + fibers.size()) fail("a warp function whose mask names threads that are not there");
    Fiber& other = warp[i];
    if (&other != current) {
      if (other.state == DONE) fail("a warp function whose mask names threads that have returned");
      if (other.state != TOGETHER) return wait(TOGETHER);
      if (other.mask != mask || other.combine != combine) fail("threads of a warp that meet in different functions");
    }
    lanes[i] = other.mine;
  }
  combine(lanes, mask);
  for (int i = 0; i < 32; i++) {
    if ((mask >> i & 1) && warp + i != current) warp[i].state = READY;
  }
}

void copyLater(void* to, const void* from, unsigned bytes) {
  current->copies.back().push_back({(unsigned char*)to, (const unsigned char*)from, bytes});
}

void commitCopies() { current->copies.emplace_back(); }

void waitForCopies(int groups) {
  while ((int)current->copies.size() > groups + 1) {
    for (const Copy& copy : current->copies.front()) {
      for (unsigned i = 0; i < 16; i++) copy.to[i] = i < copy.bytes ? copy.from[i] : 0;
    }
    current->copies.erase(current->copies.begin());
  }
}

int barrierCount(int value, int* all) {
  current->value = value;
  wait(BARRIER);
  *all = barrierAll;
  return barrierTrue;
}

void barrier() {
  int all;
  barrierCount(0, &all);
}

// Runs a kernel on a grid; null, or why it broke off.
const char* run(void (*entry)(void**), void** values, dim3 grid, dim3 size, size_t sharedBytes) {
  kernel = entry;
  parameters = values;
  gridSize = grid;
  blockSize = size;
  size_t n = (size_t)size.x * size.y * size.z, i = 0;
  fibers.resize(n);
  for (unsigned z = 0; z < size.z; z++) {
    for (unsigned y = 0; y < size.y; y++) {
      for (unsigned x = 0; x < size.x; x++) fibers[i++].index = {x, y, z};
    }
  }
  dynamicShared = sharedEnd - (sharedBytes + 15) / 16 * 16;

  struct sigaction action = {};
  action.sa_sigaction = onFault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, &oldSegv);
  sigaction(SIGBUS, &action, &oldBus);
  const char* volatile result = nullptr;
  if (sigsetjmp(failure, 1) == 0) {
    running = true;
    for (unsigned z = 0; z < grid.z; z++) {
      for (unsigned y = 0; y < grid.y; y++) {
        for (unsigned x = 0; x < grid.x; x++) {
          block = {x, y, z};
          // What a block has not written is not zero.
          memset(dynamicShared, 0xff, sharedBytes);
          blocks++;
          runBlock();
        }
      }
    }
  } else {
    result = reason;
    for (Fiber& fiber : fibers) {
      if (fiber.stack != nullptr) freeStacks.push_back(fiber.stack);
      fiber.stack = nullptr;
    }
  }
  running = false;
  sigaction(SIGSEGV, &oldSegv, nullptr);
  sigaction(SIGBUS, &oldBus, nullptr);
  return result;
}

}  // namespace kvz
