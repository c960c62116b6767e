// The formulas of one element, for the CPU and the CUDA kernels alike, so that what is tested on the one runs on the other.
// W is the wide type, float or double: elements are widened when read and narrowed when written.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define FACEGAN_HD __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define FACEGAN_HD __forceinline
#else
#define FACEGAN_HD inline __attribute__((always_inline))
#endif

namespace facegan {

enum class Act : int { linear = 0, relu = 1, lrelu = 2, tanh = 3, sigmoid = 4 };

/// `y = clamp(gain * act(v))` and its derivatives as functions of y. With a = y / gain, act' is 1 or alpha by the sign of a
/// (linear, relu, lrelu), 1 - a^2 (tanh), a (1 - a) (sigmoid); where y is clamped the derivatives are 0.
template <Act act, typename W>
struct Activation {
  W gain, below;        // factors above and below zero
  W inverse_gain, sign;  // of gain: the sign of a is that of y * sign
  W limit;              // NaN for none: every comparison with it is false

  FACEGAN_HD Activation(double alpha, double gain_, double clamp)
      : gain(W(gain_)),
        below(act == Act::lrelu ? W(gain_ * alpha) : W(0)),
        inverse_gain(W(1 / gain_)),
        sign(gain_ > 0 ? W(1) : W(-1)),
        limit(clamp > 0 ? W(clamp) : W(NAN)) {}

  /// y of the pre-activation v.
  FACEGAN_HD W operator()(W v) const {
    W y = v * gain;
    if constexpr (act == Act::relu) y = v < 0 ? W(0) : y;
    if constexpr (act == Act::lrelu) y = v * (v < 0 ? below : gain);
    if constexpr (act == Act::tanh) y = std::tanh(v) * gain;
    if constexpr (act == Act::sigmoid) y = gain / (1 + std::exp(-v));
    y = limit < y ? limit : y;  // in this form one instruction, which keeps NaN
    return -limit > y ? -limit : y;
  }

  /// Whether y is not clamped.
  FACEGAN_HD bool passes(W y) const { return !(std::abs(y) >= limit); }

  /// d y / d v.
  FACEGAN_HD W slope(W y) const {
    W slope = gain;
    if constexpr (act == Act::relu || act == Act::lrelu) slope = y * sign > 0 ? gain : below;
    if constexpr (act == Act::tanh) slope = gain - y * y * inverse_gain;
    if constexpr (act == Act::sigmoid) slope = y - y * y * inverse_gain;
    return passes(y) ? slope : W(0);
  }

  /// d slope / d y, which is not zero for tanh and sigmoid alone.
  FACEGAN_HD W slope_derivative(W y) const {
    W derivative = W(0);
    if constexpr (act == Act::tanh) derivative = -2 * y * inverse_gain;
    if constexpr (act == Act::sigmoid) derivative = 1 - 2 * y * inverse_gain;
    return passes(y) ? derivative : W(0);
  }
};

/// Calls `f(Activation<act, W>(alpha, gain, clamp))` for an activation with act(g v) = g act(v), g > 0: linear, relu, lrelu. Linear
/// is an lrelu of slope 1: one kernel less to compile.
template <typename W, typename F>
void with_homogeneous_activation(int64_t act, double alpha, double gain, double clamp, const F& f) {
  if (act == int64_t(Act::relu)) return f(Activation<Act::relu, W>(alpha, gain, clamp));
  f(Activation<Act::lrelu, W>(act == int64_t(Act::linear) ? 1.0 : alpha, gain, clamp));
}

/// The same for every activation.
template <typename W, typename F>
void with_activation(int64_t act, double alpha, double gain, double clamp, const F& f) {
  if (act == int64_t(Act::tanh)) return f(Activation<Act::tanh, W>(alpha, gain, clamp));
  if (act == int64_t(Act::sigmoid)) return f(Activation<Act::sigmoid, W>(alpha, gain, clamp));
  with_homogeneous_activation<W>(act, alpha, gain, clamp, f);
}

/// The synthesis layer's epilogue before its activation: `z = x d + noise + b`.
template <typename W>
FACEGAN_HD W epilogue(W x, W d, W noise, W b) {
  return x * d + noise + b;
}

}  // namespace facegan
