// The formulas of one element, for the CPU and the CUDA kernels alike, so that what is tested on the one runs on the other.
// W is the accumulator type, float or double: elements are widened when read and narrowed when written.
#pragma once

#include <bit>
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

/// e^v. In float a polynomial that compilers vectorise, which they do not do to std::exp: v = n ln 2 + r, and e^r by a minimax fit
/// of relative error 3e-9 for |r| <= ln 2 / 2. Beyond e^88 and e^-87 it stays there; NaN stays NaN.
FACEGAN_HD double exponential(double v) { return std::exp(v); }
FACEGAN_HD float exponential(float v) {
  v = v < -87.f ? -87.f : v;
  v = v > 88.f ? 88.f : v;
  const float shifted = v * 1.44269504f + 12582912.f;  // 1.5 * 2^23: the lowest bits now hold n, rounded
  const float n = shifted - 12582912.f, r = v - n * 0.693359375f + n * 2.12194440e-4f;  // ln 2 in two parts
  const float p = (((1.38146e-3f * r + 8.36872e-3f) * r + 4.166839e-2f) * r + 0.16666521f) * r + 0.49999994f;
  return (p * r * r + r + 1) * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) + 127) << 23);
}

/// tanh v; in float an odd minimax polynomial (relative error 4e-9) where 1 - 2 / (e^2v + 1) would cancel.
FACEGAN_HD double hyperbolic_tangent(double v) { return std::tanh(v); }
FACEGAN_HD float hyperbolic_tangent(float v) {
  const float z = v * v, e = exponential(2 * std::abs(v));
  const float near = ((((-5.70499e-3f * z + 2.063909e-2f) * z - 5.373972e-2f) * z + 0.13331442f) * z - 0.3333328f) * z * v + v;
  const float far = std::copysign(1 - 2 / (e + 1), v);
  return std::abs(v) < 0.625f ? near : far;
}

/// `y = clamp(gain * act(v))` and its derivatives as functions of y. With a = y / gain, act' is 1 or alpha by the sign of a
/// (linear, relu, lrelu), 1 - a^2 (tanh), a (1 - a) (sigmoid); where |y| reaches the limit, also exactly, the derivatives are 0.
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
        limit(clamp >= 0 ? W(clamp) : W(NAN)) {}

  /// y of the pre-activation v.
  FACEGAN_HD W operator()(W v) const {
    W y = v * gain;
    if constexpr (act == Act::relu) y = v < 0 ? W(0) : y;
    if constexpr (act == Act::lrelu) y = v * (v < 0 ? below : gain);
    if constexpr (act == Act::tanh) y = hyperbolic_tangent(v) * gain;
    if constexpr (act == Act::sigmoid) y = gain / (1 + exponential(-v));
    y = limit < y ? limit : y;  // in this form one instruction, which keeps NaN
    return -limit > y ? -limit : y;
  }

  /// Whether y is within the limit, and not at it; what is not a number is.
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

/// What a layer's result counts for where several are added up: `onto + weight y`.
template <typename W>
FACEGAN_HD W blended(W onto, W weight, W y) {
  return onto + weight * y;
}

}  // namespace facegan
