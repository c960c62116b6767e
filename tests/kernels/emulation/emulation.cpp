// The scheduler behind cuda_runtime.h, and torch's CUDA functions that the launchers call.
#include "cuda_runtime.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <ucontext.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace facegan {
alignas(16) unsigned char shared_memory[64 * 1024];
}

extern "C" {
AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) { return *stream = nullptr, 0; }
AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) { return *guard = nullptr, 0; }
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return 0; }
}

namespace emulation {
namespace {

enum class State { ready, at_barrier, at_shuffle, done };

constexpr size_t kStack = 64 * 1024;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStack);
  State state;
  uint64_t slots[2];  // of alternate shuffles, so that one barrier each is enough
  int shuffles;
};

std::vector<std::unique_ptr<Fiber>> fibers;
ucontext_t scheduler;
const std::function<void()>* body;

void enter() {
  (*body)();
  fibers[threadIdx.x]->state = State::done;
  swapcontext(&fibers[threadIdx.x]->context, &scheduler);
}

void give_way(State state) {
  Fiber& self = *fibers[threadIdx.x];
  const dim3 index = threadIdx;
  self.state = state;
  swapcontext(&self.context, &scheduler);
  threadIdx = index;
}

/// Makes ready the threads [begin, end) if all of them wait in `state`; false where some don't.
bool release(unsigned begin, unsigned end, State state, bool without_done) {
  for (unsigned i = begin; i < end; ++i)
    if (fibers[i]->state != state && !(without_done && fibers[i]->state == State::done)) return false;
  for (unsigned i = begin; i < end; ++i)
    if (fibers[i]->state == state) fibers[i]->state = State::ready;
  return true;
}

void run_block(bool reverse) {
  const unsigned threads = blockDim.x;
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& fiber = *fibers[i];
    getcontext(&fiber.context);
    fiber.context.uc_stack = {fiber.stack.get(), 0, kStack};
    makecontext(&fiber.context, enter, 0);
    fiber.state = State::ready, fiber.shuffles = 0;
  }
  for (;;) {
    bool ran = false, all_done = true;
    for (unsigned k = 0; k < threads; ++k) {
      const unsigned i = reverse ? threads - 1 - k : k;
      if (fibers[i]->state == State::ready) {
        threadIdx.x = i, ran = true;
        swapcontext(&scheduler, &fibers[i]->context);
      }
      all_done = all_done && fibers[i]->state == State::done;
    }
    if (all_done) return;
    bool released = release(0, threads, State::at_barrier, true);
    for (unsigned warp = 0; warp < threads; warp += 32)
      if (warp + 32 <= threads && release(warp, warp + 32, State::at_shuffle, false)) released = true;
    if (!ran && !released) throw std::runtime_error("emulation: a barrier or shuffle that not all threads reach");
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

void run(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
  const char* order = std::getenv("FACEGAN_EMULATION_ORDER");
  const bool reverse = order != nullptr && std::string(order) == "reverse";
  if (config.blockDim.x > 1024 || config.dynamicSmemBytes > 48 * 1024 || config.gridDim.x == 0) throw std::runtime_error("emulation: invalid launch");
  while (fibers.size() < config.blockDim.x) fibers.push_back(std::make_unique<Fiber>());
  body = &kernel, gridDim = config.gridDim, blockDim = config.blockDim;
  for (unsigned block = 0; block < gridDim.x; ++block) {
    blockIdx.x = block;
    std::memset(facegan::shared_memory, 0xff, sizeof(facegan::shared_memory));
    run_block(reverse);
  }
}

}  // namespace emulation
