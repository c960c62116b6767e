// bias_act and its first two gradients, each in one pass: the bias runs along c of [outer, c, inner].

#include "sweep.h"

namespace facegan::cpu {
namespace {

/// [outer, c, inner] as maps: a bias along the last dimension makes pixels of c channels.
Maps maps_of(int64_t outer, int64_t c, int64_t inner) { return inner == 1 ? Maps{1, c, outer, true} : Maps{outer, c, inner, false}; }

/// The bias [c] in W for every sample, zeros when there is none: what an element's channel k of [n, c] points into.
template <typename T, typename W = Acc<T>>
std::vector<W> per_sample(const OptionalTensor& b, const Maps& m) {
  std::vector<W> values(m.n * m.c, W(0));
  if (const T* given = read<T>(b))
    for (int64_t k = 0; k < m.n * m.c; ++k) values[k] = W(given[k % m.c]);
  return values;
}

}  // namespace
}  // namespace facegan::cpu

namespace facegan::launchers {

using namespace cpu;

void bias_act(
    const Tensor& x, const OptionalTensor& b, const Tensor& y, int64_t outer, int64_t c, int64_t inner, int64_t act, double alpha,
    double gain, double clamp) {
  const Maps maps = maps_of(outer, c, inner);
  large_pages(y);
  with_dtype("bias_act", x, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    const std::vector<W> biases = per_sample<T>(b, maps);
    with_activation<W>(act, alpha, gain, clamp, [&](auto activation) {
      sweep(maps, [=, in = read<T>(x), bias = biases.data(), out = written<T>(y)](int64_t i, int64_t k, int64_t) FACEGAN_INLINE {
        out[i] = T(activation(W(in[i]) + bias[k]));
      });
    });
  });
}

void bias_act_backward(
    const Tensor& dy, const Tensor& y, const Tensor& dx, const OptionalTensor& db, int64_t outer, int64_t c, int64_t inner, int64_t act,
    double alpha, double gain, double clamp) {
  const Maps maps = maps_of(outer, c, inner);
  large_pages(dx);
  with_dtype("bias_act_backward", dy, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    with_activation<W>(act, alpha, gain, clamp, [&](auto activation) {
      const auto element = [=, dout = read<T>(dy), out = read<T>(y), din = written<T>(dx)](int64_t i, int64_t, int64_t) FACEGAN_INLINE {
        const W g = W(dout[i]) * activation.slope(W(out[i]));
        din[i] = T(g);
        return Terms<W, 1>{{g}, W(0)};
      };
      if (!db) return sweep(maps, element);
      std::vector<double> sums(maps.n * maps.c);
      sweep<1, false, W>(maps, sums.data(), nullptr, element);
      for (int64_t sample = 1; sample < maps.n; ++sample)
        for (int64_t ch = 0; ch < maps.c; ++ch) sums[ch] += sums[sample * maps.c + ch];
      for (int64_t ch = 0; ch < maps.c; ++ch) written<T>(db)[ch] = T(maps.n > 0 ? W(sums[ch]) : W(0));
    });
  });
}

void bias_act_double_backward(
    const Tensor& ddx, const OptionalTensor& ddb, const Tensor& dy, const Tensor& y, const Tensor& d_dy, const OptionalTensor& d_y,
    int64_t outer, int64_t c, int64_t inner, int64_t act, double alpha, double gain, double clamp) {
  const Maps maps = maps_of(outer, c, inner);
  large_pages(d_dy);
  with_dtype("bias_act_double_backward", dy, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    const std::vector<W> biases = per_sample<T>(ddb, maps);
    with_activation<W>(act, alpha, gain, clamp, [&](auto activation) {
      const auto first = [=, ddin = read<T>(ddx), bias = biases.data(), out = read<T>(y), of_dy = written<T>(d_dy)](
                             int64_t i, int64_t k, int64_t) FACEGAN_INLINE {
        const W t = W(ddin[i]) + bias[k];
        of_dy[i] = T(t * activation.slope(W(out[i])));
        return t;
      };
      if (!d_y) return sweep(maps, first);
      sweep(maps, [=, dout = read<T>(dy), out = read<T>(y), of_y = written<T>(d_y)](int64_t i, int64_t k, int64_t p) FACEGAN_INLINE {
        of_y[i] = T(first(i, k, p) * W(dout[i]) * activation.slope_derivative(W(out[i])));
      });
    });
  });
}

}  // namespace facegan::launchers
