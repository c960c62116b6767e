// What surrounds the convolution of a synthesis layer: modulate, modulated_epilogue and their gradients, each in one pass.

#include <functional>

#include "fir.h"
#include "sweep.h"

namespace facegan::cpu {
namespace {

/// Values of batch 1 or n (0: none, filled in) in W for every sample, [n, count].
template <typename W, typename T>
std::vector<W> per_sample(const T* given, int64_t batch, int64_t n, int64_t count, W absent) {
  std::vector<W> values(n * count, absent);
  if (given)
    for (int64_t sample = 0; sample < n; ++sample)
      for (int64_t i = 0; i < count; ++i) values[sample * count + i] = W(given[(batch == 1 ? 0 : sample * count) + i]);
  return values;
}

/// The noise's gradient [batch, hw] of sums over channels [n, hw].
template <typename T, typename W>
void sum_samples(const std::vector<W>& sums, T* out, int64_t batch, int64_t n, int64_t hw) {
  for (int64_t i = 0; i < batch * hw; ++i) {
    double sum = 0;
    if (batch == 1)
      for (int64_t sample = 0; sample < n; ++sample) sum += sums[sample * hw + i];
    else sum = sums[i];
    out[i] = T(W(sum));
  }
}

/// Factors [n, 1 + regions, c] as [1 + regions, n, c]: the first row, and what each other one is beyond it. Without any, ones: no regions.
template <typename W>
std::vector<W> region_factors(const W* given, int64_t n, int64_t c, int64_t regions) {
  if (!given) return std::vector<W>(n * c, W(1));
  std::vector<W> factors((1 + regions) * n * c);
  for (int64_t sample = 0; sample < n; ++sample) {
    const W* row = given + sample * (1 + regions) * c;
    for (int64_t j = 0; j <= regions; ++j)
      for (int64_t i = 0; i < c; ++i) factors[(j * n + sample) * c + i] = row[j * c + i] - (j == 0 ? W(0) : row[i]);
  }
  return factors;
}

/// Masks [1 or n, regions, hw] as [regions, n, hw].
template <typename W>
std::vector<W> region_masks(const W* given, int64_t batch, int64_t n, int64_t hw, int64_t regions) {
  std::vector<W> masks(regions * n * hw);
  for (int64_t sample = 0; sample < n; ++sample)
    for (int64_t j = 0; j < regions; ++j) {
      const W* mask = given + ((batch == 1 ? 0 : sample * regions) + j) * hw;
      std::copy(mask, mask + hw, masks.data() + (j * n + sample) * hw);
    }
  return masks;
}

/// As the launcher of an epilogue has them.
struct Geometry {
  int64_t n, c, h, w, oh, ow;
  bool channels_last;
  int64_t kh, kw, pad_top, pad_left;
};

/// Filters x into y, where there is a filter, and finishes every element: v -> `element(v, i, k, p)` in W, with its place i in y, its
/// channel k of [n, c] and its pixel p of [n, oh, ow].
template <typename T, typename F>
void finish(const Tensor& x, const OptionalTensor& f, const Tensor& y, const Geometry& g, const F& element) {
  using W = Acc<T>;
  large_pages(y);
  const T* in = read<T>(x);
  T* first_out = written<T>(y);
  if (!f) {
    return sweep({g.n, g.c, g.h * g.w, g.channels_last}, [=](int64_t i, int64_t k, int64_t p) FACEGAN_INLINE {
      first_out[i] = T(element(W(in[i]), i, k, p));
    });
  }
  const Axis rows(g.h, g.oh, 1, 1, g.pad_top, g.kh), columns(g.w, g.ow, 1, 1, g.pad_left, g.kw == 0 ? g.kh : g.kw);
  const Fir<W> fir(rows, columns, read<W>(f), g.kh, g.kw, false, 1);
  // One call per row: behind a std::function the filter is compiled once for all elements.
  const std::function<void(int64_t, int64_t, const W*, T*)> finish_row = [=](int64_t plane, int64_t o, const W* row, T* out) {
    const int64_t k = g.channels_last ? plane * g.c : plane, p = (g.channels_last ? plane : plane / g.c) * g.oh * g.ow + o * g.ow;
    const int64_t place = out - first_out;
    for (int64_t pixel = 0; pixel < (g.channels_last ? g.ow : 1); ++pixel) {
      const int64_t first = pixel * g.c, count = g.channels_last ? g.c : g.ow;
      FACEGAN_SIMD
      for (int64_t i = 0; i < count; ++i)
        out[first + i] = T(element(row[first + i], place + first + i, g.channels_last ? k + i : k, g.channels_last ? p + pixel : p + i));
    }
  };
  fir_maps(fir, in, first_out, g.n, g.c, g.channels_last, finish_row);
}

}  // namespace
}  // namespace facegan::cpu

namespace facegan::launchers {

using namespace cpu;

void modulate(const Tensor& x, const Tensor& s, const Tensor& y, int64_t n, int64_t c, int64_t hw, bool channels_last) {
  large_pages(y);
  with_dtype("modulate", x, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    sweep({n, c, hw, channels_last}, [in = read<T>(x), s = read<W>(s), out = written<T>(y)](int64_t i, int64_t k, int64_t) FACEGAN_INLINE {
      out[i] = T(W(in[i]) * s[k]);
    });
  });
}

void modulate_backward(
    const Tensor& g, const Tensor& x, const Tensor& s, const Tensor& dx, const Tensor& ds, int64_t n, int64_t c, int64_t hw,
    bool channels_last) {
  large_pages(dx);
  with_dtype("modulate_backward", g, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    std::vector<double> sums(n * c);
    sweep<1, false, W>(
        {n, c, hw, channels_last}, sums.data(), nullptr,
        [grad = read<T>(g), in = read<T>(x), s = read<W>(s), out = written<T>(dx)](int64_t i, int64_t k, int64_t) FACEGAN_INLINE {
      const W g = W(grad[i]);
      out[i] = T(g * s[k]);
      return Terms<W, 1>{{g * W(in[i])}, W(0)};
    });
    std::copy(sums.begin(), sums.end(), written<W>(ds));
  });
}

void modulated_epilogue(
    const Tensor& x, const OptionalTensor& d, const OptionalTensor& noise, const OptionalTensor& b, const OptionalTensor& f,
    const Tensor& y, int64_t n, int64_t c, int64_t h, int64_t w, int64_t oh, int64_t ow, bool channels_last, int64_t noise_batch,
    int64_t kh, int64_t kw, int64_t pad_top, int64_t pad_left, int64_t act, double alpha, double gain, double clamp) {
  with_dtype("modulated_epilogue", x, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    const auto ds = per_sample(read<W>(d), n, n, c, W(1)), bs = per_sample(read<T>(b), 1, n, c, W(0));
    const auto noises = per_sample(read<T>(noise), noise_batch, n, oh * ow, W(0));
    const Geometry geometry{n, c, h, w, oh, ow, channels_last, kh, kw, pad_top, pad_left};
    with_homogeneous_activation<W>(act, alpha, gain, clamp, [&](auto activation) {
      finish<T>(
          x, f, y, geometry, [=, d = ds.data(), noise = noises.data(), b = bs.data()](W v, int64_t, int64_t k, int64_t p) FACEGAN_INLINE {
        return activation(epilogue(v, d[k], noise[p], b[k]));
      });
    });
  });
}

void regional_epilogue(
    const Tensor& x, const OptionalTensor& d, const OptionalTensor& masks, const OptionalTensor& noise, const OptionalTensor& b,
    const OptionalTensor& f, const OptionalTensor& onto, const OptionalTensor& weight, const Tensor& y, int64_t n, int64_t c, int64_t h,
    int64_t w, int64_t oh, int64_t ow, bool channels_last, int64_t regions, int64_t mask_batch, int64_t noise_batch, int64_t weight_batch,
    int64_t kh, int64_t kw, int64_t pad_top, int64_t pad_left, int64_t act, double alpha, double gain, double clamp) {
  with_dtype("regional_epilogue", x, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    const int64_t hw = oh * ow;
    const auto tables = region_factors(read<W>(d), n, c, regions);
    const auto areas = region_masks(read<W>(masks), mask_batch, n, hw, regions);
    const auto bs = per_sample(read<T>(b), 1, n, c, W(0)), noises = per_sample(read<T>(noise), noise_batch, n, hw, W(0));
    const auto weights = per_sample(read<W>(weight), weight_batch, n, hw, W(1));
    const Geometry geometry{n, c, h, w, oh, ow, channels_last, kh, kw, pad_top, pad_left};
    with_homogeneous_activation<W>(act, alpha, gain, clamp, [&](auto activation) {
      const auto element = [=, d = tables.data(), m = areas.data(), noise = noises.data(), b = bs.data(), onto = read<T>(onto),
                            weight = weights.data()](W v, int64_t i, int64_t k, int64_t p, auto count, auto adds) FACEGAN_INLINE {
        const int64_t number = count.value < 0 ? regions : count.value;
        W factor = d[k];
        for (int64_t j = 0; j < number; ++j) factor += m[j * n * hw + p] * d[(j + 1) * n * c + k];
        const W y = activation(epilogue(v, factor, noise[p], b[k]));
        if constexpr (adds.value) return blended(onto ? W(onto[i]) : W(0), weight[p], y);
        else return y;
      };
      const auto go = [&](auto count, auto adds) {
        finish<T>(x, f, y, geometry, [=](W v, int64_t i, int64_t k, int64_t p) FACEGAN_INLINE { return element(v, i, k, p, count, adds); });
      };
      // A loop over channels or pixels becomes one over vectors where it knows the number of regions.
      using Adds = std::bool_constant<true>;
      using Alone = std::bool_constant<false>;
      const bool adds = onto || weight;
      if (adds && regions == 0) go(std::integral_constant<int64_t, 0>(), Adds());
      else if (!adds && regions == 1) go(std::integral_constant<int64_t, 1>(), Alone());
      else if (!adds && regions == 2) go(std::integral_constant<int64_t, 2>(), Alone());
      else if (!adds && regions == 3) go(std::integral_constant<int64_t, 3>(), Alone());
      else go(std::integral_constant<int64_t, -1>(), Adds());
    });
  });
}

void modulated_epilogue_backward(
    const Tensor& dy, const Tensor& y, const OptionalTensor& d, const OptionalTensor& noise, const Tensor& dz, const Tensor& sums,
    const OptionalTensor& dn, int64_t n, int64_t c, int64_t hw, bool channels_last, int64_t noise_batch, int64_t dn_batch, int64_t act,
    double alpha, double gain, double clamp) {
  const Maps maps{n, c, hw, channels_last};
  large_pages(dz);
  with_dtype("modulated_epilogue_backward", dy, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    const auto ds = per_sample(read<W>(d), n, n, c, W(1)), noises = per_sample(read<T>(noise), noise_batch, n, hw, W(0));
    std::vector<double> totals(3 * n * c);
    std::vector<W> pixels(dn ? n * hw : 0);
    with_homogeneous_activation<W>(act, alpha, gain, clamp, [&](auto activation) {
      const auto element = [=, dout = read<T>(dy), out = read<T>(y), d = ds.data(), noise = noises.data(), dz = written<T>(dz)](
                               int64_t i, int64_t k, int64_t p) FACEGAN_INLINE {
        const W value = W(out[i]), grad = W(dout[i]), g = grad * activation.slope(value);
        dz[i] = T(g * d[k]);
        return Terms<W, 3>{{activation.passes(value) ? grad * value : W(0), g * noise[p], g}, g};
      };
      if (dn) sweep<3, true>(maps, totals.data(), pixels.data(), element);
      else sweep<3, false, W>(maps, totals.data(), nullptr, element);
    });
    std::copy(totals.begin(), totals.end(), written<W>(sums));
    if (dn) sum_samples(pixels, written<T>(dn), dn_batch, n, hw);
  });
}

void modulated_epilogue_double_backward(
    const Tensor& gdz, const OptionalTensor& gsums, const OptionalTensor& gdn, const Tensor& dy, const Tensor& y, const OptionalTensor& d,
    const OptionalTensor& noise, const Tensor& d_dy, const OptionalTensor& d_y, const OptionalTensor& d_d, const OptionalTensor& d_noise,
    int64_t n, int64_t c, int64_t hw, bool channels_last, int64_t gdn_batch, int64_t noise_batch, int64_t act, double alpha, double gain,
    double clamp) {
  const Maps maps{n, c, hw, channels_last};
  large_pages(d_dy);
  with_dtype("modulated_epilogue_double_backward", dy, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    const auto ds = per_sample(read<W>(d), n, n, c, W(1)), sums = per_sample(read<W>(gsums), 1, 1, 3 * n * c, W(0));
    const auto noises = per_sample(read<T>(noise), noise_batch, n, hw, W(0));
    const auto gdns = per_sample(read<T>(gdn), gdn_batch, n, hw, W(0));
    std::vector<double> totals(n * c);
    std::vector<W> pixels(n * hw);
    with_homogeneous_activation<W>(act, alpha, gain, clamp, [&](auto activation) {
      const auto element = [=, gdz = read<T>(gdz), dout = read<T>(dy), out = read<T>(y), d = ds.data(), noise = noises.data(),
                            gdn = gdns.data(), g0 = sums.data(), g1 = sums.data() + n * c, g2 = sums.data() + 2 * n * c,
                            of_dy = written<T>(d_dy), of_y = written<T>(d_y)](int64_t i, int64_t k, int64_t p, auto with_y) FACEGAN_INLINE {
        const W value = W(out[i]), grad = W(dout[i]), a = activation.slope(value), through = W(gdz[i]);
        const W direct = activation.passes(value) ? g0[k] : W(0);  // of sums[0] = sum dy y m
        of_dy[i] = T(a * (through * d[k] + g1[k] * noise[p] + g2[k] + gdn[p]) + direct * value);
        if constexpr (with_y) of_y[i] = T(direct * grad);
        return Terms<W, 1>{{through * grad * a}, g1[k] * grad * a};
      };
      if (d_y) {
        sweep<1, true>(maps, totals.data(), pixels.data(), [=](int64_t i, int64_t k, int64_t p) FACEGAN_INLINE {
          return element(i, k, p, std::true_type());
        });
      } else {
        sweep<1, false, W>(maps, totals.data(), nullptr, [=](int64_t i, int64_t k, int64_t p) FACEGAN_INLINE {
          return element(i, k, p, std::false_type());
        });
      }
    });
    if (d_d) std::copy(totals.begin(), totals.end(), written<W>(d_d));
    if (d_noise) sum_samples(pixels, written<T>(d_noise), noise_batch, n, hw);
  });
}

}  // namespace facegan::launchers
