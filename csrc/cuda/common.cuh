// What all CUDA kernels share: accumulator types, 16-byte accesses, launches on the tensor's device and torch's current stream.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "formulas.h"
#include "launchers.h"

namespace facegan {

using torch::headeronly::ScalarType;
using BFloat16 = c10::BFloat16;
using Half = c10::Half;

/// Accumulators, statistics and sums of T.
template <typename T>
using acc_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// Elements in one 16-byte access; float64 is there for completeness and goes element by element.
template <typename T>
constexpr int kVector = std::is_same_v<T, double> ? 1 : 16 / sizeof(T);

/// N values of one thread. N = 1 stands for one value that all elements share: `at(j)` is that value for every j.
template <typename W, int N>
struct Values {
  W v[N];
  __device__ __forceinline__ W at(int j) const { return v[N == 1 ? 0 : j]; }
  __device__ __forceinline__ W& at(int j) { return v[N == 1 ? 0 : j]; }
};

/// N elements as they lie in memory: one, or a multiple of 16 bytes as the words of whole accesses.
template <typename T, int N>
struct Pack {
  static_assert(N * sizeof(T) % 16 == 0, "accesses of 16 bytes");
  uint4 words[N * sizeof(T) / 16];
};
template <typename T>
struct Pack<T, 1> {
  T element;
};

template <int N, typename T>
__device__ __forceinline__ Pack<T, N> load(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}

// The elements in one 32-bit word, low half first, and back; a paired conversion is one instruction.
__device__ __forceinline__ void unpack(uint32_t word, const float*, float* out) { out[0] = __uint_as_float(word); }
__device__ __forceinline__ void unpack(uint32_t word, const BFloat16*, float* out) {
  out[0] = __uint_as_float(word << 16);
  out[1] = __uint_as_float(word & 0xffff0000u);
}
__device__ __forceinline__ void unpack(uint32_t word, const Half*, float* out) {
#if defined(__CUDA_ARCH__)
  const float2 pair = __half22float2(reinterpret_cast<const __half2&>(word));
  out[0] = pair.x, out[1] = pair.y;
#else
  out[0] = Half(static_cast<unsigned short>(word & 0xffffu), Half::from_bits());
  out[1] = Half(static_cast<unsigned short>(word >> 16), Half::from_bits());
#endif
}
__device__ __forceinline__ uint32_t pack(const float* in, const float*) { return __float_as_uint(in[0]); }
__device__ __forceinline__ uint32_t pack(const float* in, const BFloat16*) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const __nv_bfloat162 pair = __floats2bfloat162_rn(in[0], in[1]);
  return reinterpret_cast<const uint32_t&>(pair);
#else
  return BFloat16(in[0]).x | uint32_t(BFloat16(in[1]).x) << 16;
#endif
}
__device__ __forceinline__ uint32_t pack(const float* in, const Half*) {
#if defined(__CUDA_ARCH__)
  const __half2 pair = __floats2half2_rn(in[0], in[1]);
  return reinterpret_cast<const uint32_t&>(pair);
#else
  return Half(in[0]).x | uint32_t(Half(in[1]).x) << 16;
#endif
}

template <typename T, int N>
__device__ __forceinline__ Values<acc_t<T>, N> widen(const Pack<T, N>& packed) {
  Values<acc_t<T>, N> values;
  if constexpr (N == 1) {
    values.v[0] = static_cast<acc_t<T>>(packed.element);
  } else {
    constexpr int kInWord = 4 / sizeof(T);
#pragma unroll
    for (int i = 0; i < int(N * sizeof(T) / 16); ++i) {
      float* out = values.v + i * 4 * kInWord;
      const uint4& words = packed.words[i];
      unpack(words.x, static_cast<const T*>(nullptr), out);
      unpack(words.y, static_cast<const T*>(nullptr), out + kInWord);
      unpack(words.z, static_cast<const T*>(nullptr), out + 2 * kInWord);
      unpack(words.w, static_cast<const T*>(nullptr), out + 3 * kInWord);
    }
  }
  return values;
}

/// One access of 16 bytes, in assembly because the compiler takes an ordinary store of four words apart.
__device__ __forceinline__ void store_words(void* p, const uint4& words) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(words.x), "r"(words.y), "r"(words.z),
               "r"(words.w)
               : "memory");
#else
  *static_cast<uint4*>(p) = words;
#endif
}

template <typename T, int N>
__device__ __forceinline__ void store(T* p, const Values<acc_t<T>, N>& values) {
  if constexpr (N == 1) {
    *p = static_cast<T>(values.v[0]);
  } else {
    static_assert(N * sizeof(T) == 16, "one access of 16 bytes");
    constexpr int kInWord = 4 / sizeof(T);
    const T* type = nullptr;
    store_words(
        p,
        make_uint4(
            pack(values.v, type), pack(values.v + kInWord, type), pack(values.v + 2 * kInWord, type), pack(values.v + 3 * kInWord, type)));
  }
}

/// N values of an optional parameter from p + offset on; p is null where it is absent. Kernels run for maps with pixels alone, whose
/// parameters have elements: a null pointer is never that of an empty tensor.
template <int N, typename W, typename P>
__device__ __forceinline__ Values<W, N> read(const P* p, int64_t offset, W missing) {
  if (p != nullptr) return widen(load<N>(p + offset));
  Values<W, N> values;
#pragma unroll
  for (int j = 0; j < N; ++j) values.v[j] = missing;
  return values;
}

/// An activation whose kind is known at run time: the kernels are bound by memory, a uniform branch costs nothing.
template <typename W>
struct AnyActivation {
  Act act;
  Activation<Act::linear, W> settings;  // in truth of kind `act`: all kinds have the same members

  AnyActivation(int64_t act_, double alpha, double gain, double clamp) : act(static_cast<Act>(act_)), settings(alpha, gain, clamp) {
    with_activation<W>(act_, alpha, gain, clamp, [&](const auto& activation) {
      static_assert(sizeof(activation) == sizeof(settings));
      std::memcpy(static_cast<void*>(&settings), &activation, sizeof(settings));
    });
  }

  /// f(Activation<kind, W>); without `all` only what keeps its argument's sign: linear, relu, lrelu.
  template <bool ALL, typename F>
  __device__ __forceinline__ void with(const F& f) const {
    if (act == Act::linear) return f(settings);
    if (act == Act::relu) return f(as<Act::relu>());
    if constexpr (ALL) {
      if (act == Act::tanh) return f(as<Act::tanh>());
      if (act == Act::sigmoid) return f(as<Act::sigmoid>());
    }
    f(as<Act::lrelu>());
  }

 private:
  template <Act KIND>
  __device__ __forceinline__ const Activation<KIND, W>& as() const {
    return reinterpret_cast<const Activation<KIND, W>&>(settings);
  }
};

/// Launches kernels of one operator on x's device and torch's current stream there; never synchronises.
class Launcher {
 public:
  Launcher(const char* op, const Tensor& x) : op_(op), device_(x.get_device_index()), guard_(device_), like_(x) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  template <typename... Parameters, typename... Arguments>
  void operator()(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes, Arguments&&... arguments) const {
    if (blocks > INT32_MAX) throw std::runtime_error(std::string("facegan::") + op_ + ": the tensors are too large for one launch");
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream_;
    check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...));
  }

  /// Writes zeros, what sums over nothing are, to `count` elements.
  template <typename W>
  void zero(W* p, int64_t count) const {
    if (count > 0) check(cudaMemsetAsync(p, 0, static_cast<size_t>(count) * sizeof(W), stream_));
  }

  int multiprocessors() const {
    int count = 0;
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device_));
    return count;
  }

  /// Uninitialised memory for `count` elements of type W; freed in stream order when the tensor goes.
  template <typename W>
  Tensor scratch(int64_t count) const {
    return torch::stable::new_empty(like_, {count}, std::is_same_v<W, double> ? ScalarType::Double : ScalarType::Float);
  }

 private:
  void check(cudaError_t error) const {
    if (error != cudaSuccess) throw std::runtime_error(std::string("facegan::") + op_ + ": " + cudaGetErrorString(error));
  }

  const char* op_;
  int32_t device_;
  torch::stable::accelerator::DeviceGuard guard_;
  const Tensor& like_;
  cudaStream_t stream_{};
};

template <typename T>
const T* input(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}
template <typename T>
const T* input(const std::optional<Tensor>& x) {
  return x.has_value() ? input<T>(*x) : nullptr;
}
template <typename T>
T* output(const Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}
template <typename T>
T* output(const std::optional<Tensor>& x) {
  return x.has_value() ? output<T>(*x) : nullptr;
}

inline bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers)
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  return true;
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// f(T()) for the dtype of x.
template <typename F>
void with_dtype(const char* op, const Tensor& x, const F& f) {
  switch (x.scalar_type()) {
    case ScalarType::Float: return f(float());
    case ScalarType::Double: return f(double());
    case ScalarType::Half: return f(Half());
    case ScalarType::BFloat16: return f(BFloat16());
    default: throw std::runtime_error(std::string("facegan::") + op + ": expected float32, float16, bfloat16 or float64");
  }
}

/// f(width, last) as compile-time constants: elements per access, and whether channels lie along the contiguous dimension.
template <typename T, typename F>
void with_layout(bool vector, bool last, const F& f) {
  using std::integral_constant;
  if (kVector<T> > 1 && vector) {
    last ? f(integral_constant<int, kVector<T>>(), std::true_type()) : f(integral_constant<int, kVector<T>>(), std::false_type());
  } else {
    last ? f(integral_constant<int, 1>(), std::true_type()) : f(integral_constant<int, 1>(), std::false_type());
  }
}

}  // namespace facegan
