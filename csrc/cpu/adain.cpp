// adain and adain_affine with their gradients. The maps of a few channels (NCHW) or of a sample (channels_last) are worked on at
// a time, so that one that fits the cache is read from memory once, though its statistics and its affine pass read it in turn.

#include <cmath>
#include <limits>
#include <type_traits>

#include "sweep.h"

namespace facegan::cpu {
namespace {

/// One group of channels of one sample: its maps start at element `map`, its channels at k of [n, c].
struct Group {
  Maps maps;
  int64_t sample, k, map;
};

/// Calls `f(group)` for all groups of maps [n, c, hw].
template <typename F>
void for_groups(const Maps& m, const F& f) {
  const int64_t channels = m.channels_last ? m.c : std::clamp<int64_t>(kGrain / std::max<int64_t>(m.hw, 1), 1, std::max<int64_t>(m.c, 1));
  const int64_t per_sample = (m.c + channels - 1) / std::max<int64_t>(channels, 1);
  parallel(m.n * per_sample, channels * m.hw, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t sample = i / per_sample, ch = i % per_sample * channels, k = sample * m.c + ch;
      f(Group{{1, std::min(channels, m.c - ch), m.hw, m.channels_last}, sample, k, k * m.hw});
    }
  });
}

/// Weights of the pixels in means: those of a sample's mask over their sum, or 1 / hw. An empty mask selects nothing: any
/// statistics do, as long as they are finite.
template <typename W, bool kMasked>
struct Weights {
  const W* mask;
  W inverse;

  Weights(const W* masks, int64_t sample, int64_t hw) : mask(kMasked ? masks + sample * hw : nullptr) {
    double sum = kMasked ? 0 : double(std::max<int64_t>(hw, 1));
    if constexpr (kMasked)
      for (int64_t p = 0; p < hw; ++p) sum += mask[p];
    inverse = W(1 / std::max<double>(sum, std::numeric_limits<float>::min()));
  }

  FACEGAN_INLINE W of(int64_t p) const {
    if constexpr (kMasked) return mask[p];
    return W(1);
  }
};

template <typename W>
struct Statistics {
  std::vector<W> mean, sigma, inverse_sigma;
};

/// Mean and sigma of every channel: a rough mean first, then sums of the distances to it, which correct the mean as well.
template <typename W, typename T, bool kMasked>
Statistics<W> statistics(const T* x, const Maps& m, const Weights<W, kMasked>& weights, double eps) {
  std::vector<double> sums(2 * m.c);
  sweep<1, false, W>(
      m, sums.data(), nullptr, [=](int64_t i, int64_t, int64_t p) FACEGAN_INLINE { return Terms<W, 1>{{weights.of(p) * W(x[i])}, W(0)}; });
  std::vector<W> rough(m.c);
  for (int64_t ch = 0; ch < m.c; ++ch) rough[ch] = W(sums[ch] * weights.inverse);
  sweep<2, false, W>(m, sums.data(), nullptr, [=, shift = rough.data()](int64_t i, int64_t k, int64_t p) FACEGAN_INLINE {
    const W distance = W(x[i]) - shift[k], weighted = weights.of(p) * distance;
    return Terms<W, 2>{{weighted, weighted * distance}, W(0)};
  });
  Statistics<W> of{std::vector<W>(m.c), std::vector<W>(m.c), std::vector<W>(m.c)};
  for (int64_t ch = 0; ch < m.c; ++ch) {
    const double mean = sums[ch] * weights.inverse, variance = sums[m.c + ch] * weights.inverse - mean * mean;
    of.mean[ch] = W(rough[ch] + mean);
    of.sigma[ch] = W(std::sqrt((variance < 0 ? 0 : variance) + eps));  // keeps NaN
    of.inverse_sigma[ch] = 1 / of.sigma[ch];
  }
  return of;
}

template <typename W, typename F>
void with_mask(const OptionalTensor& mask, const F& f) {
  if (mask) return f(read<W>(mask), std::true_type());
  f(static_cast<const W*>(nullptr), std::false_type());
}

}  // namespace
}  // namespace facegan::cpu

namespace facegan::launchers {

using namespace cpu;

void adain(
    const Tensor& content, const Tensor& style, const OptionalTensor& mask, const Tensor& y, int64_t n, int64_t c, int64_t hw,
    int64_t style_hw, bool channels_last, double alpha_, double eps) {
  large_pages(y);
  with_dtype("adain", content, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    with_mask<W>(mask, [&](const W* masks, auto masked) {
      for_groups({n, c, hw, channels_last}, [&](const Group& group) {
        const Maps& m = group.maps;
        const Maps style_maps{1, m.c, style_hw, channels_last};
        const T *in = read<T>(content) + group.map, *from = read<T>(style) + group.k * style_hw;
        const Weights<W, masked> weights(masks, group.sample, hw), style_weights(masks, group.sample, style_hw);
        const auto of_c = statistics<W>(in, m, weights, eps), of_s = statistics<W>(from, style_maps, style_weights, eps);
        // t = ratio c + shift has the style's statistics: y = c + alpha m (t - c)
        const W alpha = W(alpha_);
        std::vector<W> factors(m.c), shifts(m.c);
        for (int64_t ch = 0; ch < m.c; ++ch) {
          const W ratio = of_s.sigma[ch] * of_c.inverse_sigma[ch];
          factors[ch] = masked ? ratio - 1 : 1 - alpha + alpha * ratio;
          shifts[ch] = (masked ? W(1) : alpha) * (of_s.mean[ch] - ratio * of_c.mean[ch]);
        }
        sweep(
            m, [=, factor = factors.data(), shift = shifts.data(), out = written<T>(y) + group.map](int64_t i, int64_t k, int64_t p)
                   FACEGAN_INLINE {
          const W x = W(in[i]), t = x * factor[k] + shift[k];
          if constexpr (masked) out[i] = T(x + alpha * weights.of(p) * t);
          else out[i] = T(t);
        });
      });
    });
  });
}

void adain_backward(
    const Tensor& dy, const Tensor& content, const Tensor& style, const OptionalTensor& mask, const Tensor& d_content,
    const Tensor& d_style, int64_t n, int64_t c, int64_t hw, int64_t style_hw, bool channels_last, double alpha_, double eps) {
  large_pages(d_content, d_style);
  with_dtype("adain_backward", content, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    with_mask<W>(mask, [&](const W* masks, auto masked) {
      for_groups({n, c, hw, channels_last}, [&](const Group& group) {
        const Maps& m = group.maps;
        const Maps style_maps{1, m.c, style_hw, channels_last};
        const T *grad = read<T>(dy) + group.map, *in = read<T>(content) + group.map;
        const T* from = read<T>(style) + group.k * style_hw;
        const Weights<W, masked> weights(masks, group.sample, hw), style_weights(masks, group.sample, style_hw);
        const auto of_c = statistics<W>(in, m, weights, eps), of_s = statistics<W>(from, style_maps, style_weights, eps);
        // With dt = alpha m dy, the style acts through its mean (gradient sum dt) and its sigma (sum dt c_hat).
        const W alpha = W(alpha_);
        std::vector<double> sums(2 * m.c);
        sweep<2, false, W>(m, sums.data(), nullptr, [=, mean = of_c.mean.data()](int64_t i, int64_t k, int64_t p) FACEGAN_INLINE {
          const W dt = alpha * weights.of(p) * W(grad[i]);
          return Terms<W, 2>{{dt, dt * (W(in[i]) - mean[k])}, W(0)};
        });
        // (sum dt + x_hat sum dt c_hat) w as w (base + slope x), for the content and for the style
        std::vector<W> ratio(m.c), base_c(m.c), slope_c(m.c), base_s(m.c), slope_s(m.c);
        for (int64_t ch = 0; ch < m.c; ++ch) {
          const double d_mean = sums[ch], d_sigma = sums[m.c + ch] * of_c.inverse_sigma[ch];
          ratio[ch] = of_s.sigma[ch] * of_c.inverse_sigma[ch];
          slope_c[ch] = W(d_sigma * of_c.inverse_sigma[ch] * weights.inverse);
          slope_s[ch] = W(d_sigma * of_s.inverse_sigma[ch] * style_weights.inverse);
          base_c[ch] = W(d_mean * weights.inverse);
          base_s[ch] = W(d_mean * style_weights.inverse);
        }
        sweep(
            m, [=, ratio = ratio.data(), base = base_c.data(), slope = slope_c.data(), mean = of_c.mean.data(),
                out = written<T>(d_content) + group.map](int64_t i, int64_t k, int64_t p) FACEGAN_INLINE {
          const W g = W(grad[i]), weight = weights.of(p), blend = alpha * weight;
          const W mean_part = weight * (base[k] + slope[k] * (W(in[i]) - mean[k]));
          out[i] = T(g - blend * g + ratio[k] * (blend * g - mean_part));
        });
        sweep(
            style_maps, [=, base = base_s.data(), slope = slope_s.data(), mean = of_s.mean.data(),
                         out = written<T>(d_style) + group.k * style_hw](int64_t i, int64_t k, int64_t p)
                            FACEGAN_INLINE { out[i] = T(style_weights.of(p) * (base[k] + slope[k] * (W(from[i]) - mean[k]))); });
      });
    });
  });
}

void adain_affine(
    const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& y, int64_t n, int64_t c, int64_t hw, bool channels_last,
    double eps) {
  large_pages(y);
  with_dtype("adain_affine", x, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    for_groups({n, c, hw, channels_last}, [&](const Group& group) {
      const Maps& m = group.maps;
      const T* in = read<T>(x) + group.map;
      const auto of = statistics<W>(in, m, Weights<W, false>(nullptr, 0, hw), eps);
      std::vector<W> factors(m.c), shifts(m.c);
      for (int64_t ch = 0; ch < m.c; ++ch) {
        factors[ch] = read<W>(scale)[group.k + ch] * of.inverse_sigma[ch];
        shifts[ch] = read<W>(shift)[group.k + ch] - factors[ch] * of.mean[ch];
      }
      sweep(
          m, [=, factor = factors.data(), shift = shifts.data(), out = written<T>(y) + group.map](int64_t i, int64_t k, int64_t)
                 FACEGAN_INLINE { out[i] = T(W(in[i]) * factor[k] + shift[k]); });
    });
  });
}

void adain_affine_backward(
    const Tensor& dy, const Tensor& x, const Tensor& scale, const Tensor& dx, const Tensor& d_scale, const Tensor& d_shift, int64_t n,
    int64_t c, int64_t hw, bool channels_last, double eps) {
  large_pages(dx);
  with_dtype("adain_affine_backward", x, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    for_groups({n, c, hw, channels_last}, [&](const Group& group) {
      const Maps& m = group.maps;
      const T *grad = read<T>(dy) + group.map, *in = read<T>(x) + group.map;
      const Weights<W, false> weights(nullptr, 0, hw);
      const auto of = statistics<W>(in, m, weights, eps);
      std::vector<double> sums(2 * m.c);
      sweep<2, false, W>(m, sums.data(), nullptr, [=, mean = of.mean.data()](int64_t i, int64_t k, int64_t) FACEGAN_INLINE {
        const W g = W(grad[i]);
        return Terms<W, 2>{{g, g * (W(in[i]) - mean[k])}, W(0)};
      });
      std::vector<W> factors(m.c), bases(m.c), slopes(m.c);  // dx = factor (dy - base - slope (x - mean))
      for (int64_t ch = 0; ch < m.c; ++ch) {
        const double of_scale = sums[m.c + ch] * of.inverse_sigma[ch];
        factors[ch] = read<W>(scale)[group.k + ch] * of.inverse_sigma[ch];
        bases[ch] = W(sums[ch] * weights.inverse);
        slopes[ch] = W(of_scale * of.inverse_sigma[ch] * weights.inverse);
        written<W>(d_scale)[group.k + ch] = W(of_scale);
        written<W>(d_shift)[group.k + ch] = W(sums[ch]);
      }
      sweep(
          m, [=, factor = factors.data(), base = bases.data(), slope = slopes.data(), mean = of.mean.data(),
              out = written<T>(dx) + group.map](int64_t i, int64_t k, int64_t)
                 FACEGAN_INLINE { out[i] = T(factor[k] * (W(grad[i]) - base[k] - slope[k] * (W(in[i]) - mean[k]))); });
    });
  });
}

}  // namespace facegan::launchers
