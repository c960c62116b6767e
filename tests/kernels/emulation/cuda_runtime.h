// Stands in for CUDA's header, so that a C++ compiler takes the .cu files and a CPU runs their kernels, thread by thread.
//
// Blocks run one after another, the threads of a block as fibers that give way at barriers and shuffles only, in ascending or
// (FACEGAN_EMULATION_ORDER=reverse) descending order: a missing barrier shows as a difference between the two. Shared memory is
// filled with NaN before every block. A barrier that not all threads reach, a shuffle with threads that have ended, an access
// outside of what the operator was given (memory.cpp), one of 16 bytes at an address that is not a multiple of 16, and an integer
// divided by zero end the kernel with an error, which the launcher raises as it does CUDA's own.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __shared__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned x_) : x(x_) {}
};

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorLaunchFailure };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};
const char* cudaGetErrorString(cudaError_t);  // of the last launch
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t);
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 1;  // few blocks, so that each has several steps
  return cudaSuccess;
}

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {
/// A kernel with its parameters, which lie in `size` bytes at `memory`; `signature` names their types in a message.
struct Call {
  void (*invoke)(const void* memory);
  const void* memory;
  size_t size;
  const char* signature;
};
cudaError_t run(const cudaLaunchConfig_t& config, const Call& call);
void block_barrier();
uint64_t exchange(uint64_t value, int source_lane);  // among the threads of a warp

template <typename... Parameters>
const char* signature() {
  return __PRETTY_FUNCTION__;
}
}  // namespace emulation

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const auto call = [kernel, copies = std::tuple<std::decay_t<Parameters>...>(std::forward<Arguments>(arguments)...)] {
    std::apply(kernel, copies);
  };
  const auto invoke = [](const void* memory) { (*static_cast<const decltype(call)*>(memory))(); };
  return emulation::run(*config, {invoke, &call, sizeof(call), emulation::signature<Parameters...>()});
}

inline void __syncthreads() { emulation::block_barrier(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = emulation::exchange(bits, int(threadIdx.x % 32) ^ mask);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
template <typename T>
T max(T a, T b) {
  return a > b ? a : b;
}
