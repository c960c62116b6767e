// What the CPU kernels share: dtypes, pointers, instruction sets and chunks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>

#include "../formulas.h"
#include "../launchers.h"

// The build compiles for AVX2 (build_parameters.py), and the loader refuses older processors. Wider vectors would not help: the
// kernels wait for memory.
#if defined(_MSC_VER)
#define FACEGAN_INLINE [[msvc::forceinline]]
#define FACEGAN_SIMD
#define FACEGAN_SIMD_SUM(...)
#define FACEGAN_RESTRICT __restrict
#define FACEGAN_PREFETCH(address)
#else
#define FACEGAN_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define FACEGAN_INLINE __attribute__((always_inline))
#define FACEGAN_SIMD FACEGAN_PRAGMA(omp simd)
#define FACEGAN_SIMD_SUM(...) FACEGAN_PRAGMA(omp simd reduction(+ : __VA_ARGS__))
#define FACEGAN_RESTRICT __restrict__
#define FACEGAN_PREFETCH(address) __builtin_prefetch(address)
#endif

namespace facegan::cpu {

using torch::headeronly::BFloat16;
using torch::headeronly::ScalarType;

/// The type of accumulators and per-channel values.
template <typename T>
struct AccOf {
  using type = float;
};
template <>
struct AccOf<double> {
  using type = double;
};
template <typename T>
using Acc = typename AccOf<T>::type;

template <typename T>
const T* read(const Tensor& t) {
  return static_cast<const T*>(t.data_ptr());
}
template <typename T>
const T* read(const OptionalTensor& t) {
  return t ? static_cast<const T*>(t->data_ptr()) : nullptr;
}
template <typename T>
T* written(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}
template <typename T>
T* written(const OptionalTensor& t) {
  return t ? static_cast<T*>(t->data_ptr()) : nullptr;
}

/// Asks for 2 MiB pages behind large results before they are written: fresh memory in pages of 4 KiB costs several times what a
/// kernel does, as the system clears and maps them one by one.
template <typename... Results>
void large_pages([[maybe_unused]] const Results&... results) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = uintptr_t(1) << 21;
  const auto advise = [](const Tensor& t) {
    const auto first = (reinterpret_cast<uintptr_t>(t.data_ptr()) + kPage - 1) / kPage * kPage;
    const auto last = (reinterpret_cast<uintptr_t>(t.data_ptr()) + t.numel() * t.element_size()) / kPage * kPage;
    if (last > first + kPage) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // a hint: may fail
  };
  (advise(results), ...);
#endif
}

/// Calls `f(T())` with x's dtype.
template <typename F>
void with_dtype(const char* op, const Tensor& x, const F& f) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return f(float());
    case ScalarType::Double: return f(double());
    case ScalarType::BFloat16: return f(BFloat16());
    default: STD_TORCH_CHECK(false, op, ": the CPU kernel takes float32, float64 and bfloat16.");
  }
}

constexpr int64_t kGrain = 32768;  // elements that are worth a thread

/// Calls `f(begin, end)` on ranges of `count` items of `size` elements each, in parallel where it pays.
template <typename F>
void parallel(int64_t count, int64_t size, const F& f) {
  if (count > 0) torch::stable::parallel_for(0, count, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, size)), f);
}

}  // namespace facegan::cpu
