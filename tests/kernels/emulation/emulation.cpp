// The scheduler behind cuda_runtime.h, and torch's CUDA functions that the launchers call.
#include "emulation.h"

#include <setjmp.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace facegan {
alignas(16) unsigned char shared_memory[64 * 1024];
}

extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) { return *stream = nullptr, 0; }

namespace emulation {
namespace {

enum class State { ready, at_barrier, at_shuffle, done };

constexpr size_t kStack = 64 * 1024, kSharedLimit = 48 * 1024;

/// One thread of a block; it serves one block after the other. Switching is by _setjmp and _longjmp: swapcontext asks the kernel
/// twice for the signal mask, which took most of the time.
struct Fiber {
  jmp_buf context;
  std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStack);
  State state;
  bool started = false;
  uint64_t slots[2];  // of alternate shuffles, so that one barrier each is enough
  int shuffles;
};

constexpr unsigned kMostThreads = 1024;
std::unique_ptr<Fiber> fibers[kMostThreads];
jmp_buf scheduler;
const Call* running = nullptr;
std::string message;  // why the last launch failed; empty if it did not

void give_way(State state) {
  Fiber& self = *fibers[threadIdx.x];
  self.state = state;
  if (_setjmp(self.context) == 0) _longjmp(scheduler, 1);
}

void enter() {
  for (;;) {
    running->invoke(running->memory);
    give_way(State::done);
  }
}

void start(Fiber& fiber) {
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get(), context.uc_stack.ss_size = kStack, context.uc_link = nullptr;
  makecontext(&context, enter, 0);
  fiber.started = true;
  setcontext(&context);
}

/// Runs thread i until it gives way, ends or fails.
void resume(unsigned i) {
  Fiber& fiber = *fibers[i];
  threadIdx.x = i;
  enter_thread(fiber.stack.get(), kStack);
  if (_setjmp(scheduler) != 0) return leave_thread();
  if (fiber.started) _longjmp(fiber.context, 1);
  start(fiber);
}

/// Makes ready the threads [begin, end) if all of them wait in `state`; false where some don't.
bool release(unsigned begin, unsigned end, State state, bool without_done) {
  for (unsigned i = begin; i < end; ++i)
    if (fibers[i]->state != state && !(without_done && fibers[i]->state == State::done)) return false;
  for (unsigned i = begin; i < end; ++i)
    if (fibers[i]->state == state) fibers[i]->state = State::ready;
  return true;
}

/// Whether the block ran to its end; else `message` says why not.
bool run_block(bool reverse) {
  const unsigned threads = blockDim.x;
  for (unsigned i = 0; i < threads; ++i) fibers[i]->state = State::ready, fibers[i]->shuffles = 0;
  for (;;) {
    bool ran = false, all_done = true;
    for (unsigned k = 0; k < threads; ++k) {
      const unsigned i = reverse ? threads - 1 - k : k;
      if (fibers[i]->state == State::ready) {
        ran = true;
        resume(i);
        if (!message.empty()) return false;
      }
      all_done = all_done && fibers[i]->state == State::done;
    }
    if (all_done) return true;
    bool released = release(0, threads, State::at_barrier, true);
    for (unsigned warp = 0; warp < threads; warp += 32)
      if (warp + 32 <= threads && release(warp, warp + 32, State::at_shuffle, false)) released = true;
    if (!ran && !released) return message = "emulation: a barrier or shuffle that not all threads reach", false;
  }
}

}  // namespace

void block_barrier() { give_way(State::at_barrier); }

uint64_t exchange(uint64_t value, int source_lane) {
  Fiber& self = *fibers[threadIdx.x];
  const int slot = self.shuffles++ % 2;
  self.slots[slot] = value;
  give_way(State::at_shuffle);
  return fibers[threadIdx.x / 32 * 32 + source_lane]->slots[slot];
}

cudaError_t failed(const std::string& what) { return message = what, cudaErrorLaunchFailure; }

void fault(const std::string& what) {
  leave_thread();
  if (running == nullptr) {
    std::fprintf(stderr, "emulation: outside of a kernel: %s\n", what.c_str());
    std::abort();
  }
  message = "emulation: thread " + std::to_string(threadIdx.x) + " of block " + std::to_string(blockIdx.x) + " " + what;
  _longjmp(scheduler, 1);
}

cudaError_t run(const cudaLaunchConfig_t& config, const Call& call) {
  const char* order = std::getenv("FACEGAN_EMULATION_ORDER");
  const bool reverse = order != nullptr && std::string(order) == "reverse";
  message.clear();
  if (config.gridDim.x == 0 || config.blockDim.x == 0 || config.blockDim.x > kMostThreads || config.dynamicSmemBytes > kSharedLimit) {
    return failed(
        "emulation: a launch of " + std::to_string(config.gridDim.x) + " blocks of " + std::to_string(config.blockDim.x) +
        " threads with " + std::to_string(config.dynamicSmemBytes) + " bytes of shared memory");
  }
  for (unsigned i = 0; i < config.blockDim.x; ++i)
    if (fibers[i] == nullptr) fibers[i] = std::make_unique<Fiber>();
  running = &call, gridDim = config.gridDim, blockDim = config.blockDim;
  enter_kernel(call.memory, call.size, config.dynamicSmemBytes);
  for (unsigned block = 0; block < gridDim.x && message.empty(); ++block) {
    blockIdx.x = block;
    std::memset(facegan::shared_memory, 0xff, config.dynamicSmemBytes);
    run_block(reverse);
  }
  running = nullptr;
  if (message.empty()) return cudaSuccess;
  for (auto& fiber : fibers) fiber.reset();  // they hang where the kernel failed
  return failed(message + "; " + call.signature);
}

}  // namespace emulation

const char* cudaGetErrorString(cudaError_t) { return emulation::message.c_str(); }
