// Stands in for CUDA's header, so that a C++ compiler takes the .cu files and a CPU runs their kernels, thread by thread.
//
// Blocks run one after another, the threads of a block as fibers that give way at barriers and shuffles only, in ascending or
// (FACEGAN_EMULATION_ORDER=reverse) descending order: a missing barrier shows as a difference between the two. Shared memory is
// filled with NaN before every block. A barrier that not all threads reach, or a shuffle with threads that have ended, throws,
// and so does an access of 16 bytes at an address that is not a multiple of 16 (by the sanitizer's alignment check).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
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
enum cudaError_t { cudaSuccess = 0 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};
inline const char* cudaGetErrorString(cudaError_t) { return ""; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 1;  // few blocks, so that each has several steps
  return cudaSuccess;
}

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {
void run(const cudaLaunchConfig_t& config, const std::function<void()>& kernel);
void block_barrier();
uint64_t exchange(uint64_t value, int source_lane);  // among the threads of a warp
}  // namespace emulation

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const std::tuple<std::decay_t<Parameters>...> copies(std::forward<Arguments>(arguments)...);
  emulation::run(*config, [&] { std::apply(kernel, copies); });
  return cudaSuccess;
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
