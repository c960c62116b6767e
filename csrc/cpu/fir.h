// upfirdn2d row by row, in W: the vertical taps of a row's phase combine input rows into a padded buffer that stays in the L1
// cache, the horizontal taps turn the buffer into the output row. A [kh, kw] filter does that once per vertical tap.
//
// With up = U, output o = r + U m of phase r meets the input pixels first_r + down * m + t with the taps g[j_r + U t]: the zeros
// between the pixels are never multiplied.
#pragma once

#include <type_traits>
#include <utility>

#include "common.h"

namespace facegan::cpu {

/// Outputs r, r + up, ... of one axis: output m meets input pixels first + down * m + t, t < taps.
struct Phase {
  int64_t first, tap, taps;  // tap: the first one's position in the filter
};

struct Axis {
  int64_t size, out, up, down;
  int64_t low = 0, high = 0;  // the input pixels [low, high) that outputs meet; those outside of [0, size) are zero
  std::vector<Phase> phases;

  Axis(int64_t size_, int64_t out_, int64_t up_, int64_t down_, int64_t pad, int64_t taps) : size(size_), out(out_), up(up_), down(down_) {
    for (int64_t r = 0; r < std::min(up, out); ++r) {
      const int64_t base = r * down - pad, tap = ((-base) % up + up) % up, first = (base + tap) / up;
      phases.push_back({first, tap, tap < taps ? (taps - tap + up - 1) / up : 0});
      low = r == 0 ? first : std::min(low, first);
      high = std::max(r == 0 ? first : high, first + (out - 1 - r) / up * down + phases.back().taps);
    }
  }
};

/// A filter with its geometry: taps that are correlated with the padded input, sorted by phase.
template <typename W>
struct Fir {
  Axis y, x;
  bool separable;
  std::vector<std::vector<W>> vertical;    // by phase of y; ones for a filter that is not separable
  std::vector<std::vector<W>> horizontal;  // all phases of x in a row; one row for every vertical tap when not separable

  Fir(Axis y_, Axis x_, const W* f, int64_t kh, int64_t kw, bool flip, double gain) : y(y_), x(x_), separable(kw == 0) {
    const auto tap = [&](const W* taps, int64_t count, int64_t j) { return taps[flip ? j : count - 1 - j]; };
    for (const Phase& phase : y.phases) {
      vertical.emplace_back();
      for (int64_t t = 0; t < phase.taps; ++t) vertical.back().push_back(separable ? W(tap(f, kh, phase.tap + t * y.up) * gain) : W(1));
    }
    for (int64_t j = 0; j < (separable ? 1 : kh); ++j) {
      const int64_t width = separable ? kh : kw;
      const W* row = separable ? f : f + (flip ? j : kh - 1 - j) * kw;
      horizontal.emplace_back();
      for (const Phase& phase : x.phases)
        for (int64_t t = 0; t < phase.taps; ++t)
          horizontal.back().push_back(W(tap(row, width, phase.tap + t * x.up) * (separable ? 1 : gain)));
    }
  }
};

/// out[m * step + i] (+)= sum_t g[t] source(t, m, i) for m < pixels and i < c.
template <bool kAdd, int kTaps, typename W, typename Source>
FACEGAN_INLINE inline void combine_taps(W* out, int64_t step, const W* g, int64_t pixels, int64_t c, const Source& source) {
  W k[kTaps];
  for (int t = 0; t < kTaps; ++t) k[t] = g[t];
  for (int64_t m = 0; m < pixels; ++m) {
    W* pixel = out + m * step;
    FACEGAN_SIMD
    for (int64_t i = 0; i < c; ++i) {
      W sum = kAdd ? pixel[i] : W(0);
      for (int t = 0; t < kTaps; ++t) sum += k[t] * W(source(t, m, i));
      pixel[i] = sum;
    }
  }
}

template <bool kAdd, typename W, typename Source>
FACEGAN_INLINE inline int64_t combine_some(
    W* out, int64_t step, const W* g, int64_t taps, int64_t pixels, int64_t c, const Source& source) {
  if (taps >= 4) return combine_taps<kAdd, 4>(out, step, g, pixels, c, source), 4;
  if (taps >= 2) return combine_taps<kAdd, 2>(out, step, g, pixels, c, source), 2;
  return combine_taps<kAdd, 1>(out, step, g, pixels, c, source), 1;
}

/// The same for any number of taps, four, two or one at a time; added to out when `add`.
template <typename W, typename Source>
FACEGAN_INLINE inline void combine(
    bool add, W* out, int64_t step, const W* g, int64_t taps, int64_t pixels, int64_t c, const Source& source) {
  int64_t done = 0;
  if (!add && taps > 0) done = combine_some<false>(out, step, g, taps, pixels, c, source);
  if (!add && taps == 0)
    for (int64_t m = 0; m < pixels; ++m) std::fill(out + m * step, out + m * step + c, W(0));
  while (done < taps) {
    const auto rest = [&](int64_t t, int64_t m, int64_t i) FACEGAN_INLINE { return source(done + t, m, i); };
    done += combine_some<true>(out, step, g + done, taps - done, pixels, c, rest);
  }
}

/// Both phases of up = 2 at once, so that the interleaved row of 2 n pixels is written in whole vectors.
template <int kTaps, typename W>
FACEGAN_INLINE inline void interleave(W* FACEGAN_RESTRICT out, const W* even, const W* odd, const W* g, int64_t n) {
  W k[2 * kTaps];
  for (int t = 0; t < 2 * kTaps; ++t) k[t] = g[t];
  FACEGAN_SIMD
  for (int64_t m = 0; m < n; ++m) {
    W a = 0, b = 0;
    for (int t = 0; t < kTaps; ++t) a += k[t] * even[m + t], b += k[kTaps + t] * odd[m + t];
    out[2 * m] = a;
    out[2 * m + 1] = b;
  }
}

/// The horizontal taps g: `padded` [high - low, c] -> out [out, c], written or added to it.
template <typename W>
FACEGAN_INLINE inline void filter_row(
    const Axis& x, const W* g, bool add, const W* FACEGAN_RESTRICT padded, W* FACEGAN_RESTRICT out, int64_t c) {
  const Phase* phases = x.phases.data();
  if (c == 1 && x.up == 1 && x.down == 2)
    return combine(add, out, 0, g, phases->taps, 1, x.out, [=](int64_t t, int64_t, int64_t i) FACEGAN_INLINE { return padded[2 * i + t]; });
  if (c == 1 && !add && x.up == 2 && x.down == 1 && x.out % 2 == 0 && phases[0].taps == 2 && phases[1].taps == 2)
    return interleave<2>(out, padded + phases[0].first - x.low, padded + phases[1].first - x.low, g, x.out / 2);
  const bool whole = x.up == 1 && x.down == 1;  // the row as one pixel of out * c channels
  for (int64_t r = 0; r < int64_t(x.phases.size()); g += phases[r++].taps) {
    const W* source = padded + (phases[r].first - x.low) * c;
    const int64_t step = x.down * c;
    combine(
        add, out + r * c, x.up * c, g, phases[r].taps, whole ? 1 : (x.out - r + x.up - 1) / x.up, whole ? x.out * c : c,
        [=](int64_t t, int64_t m, int64_t i) FACEGAN_INLINE { return source[m * step + t * c + i]; });
  }
}

/// The vertical taps [from, to) of output row o, which lie within x: x [size, width] -> out [width].
template <typename T, typename W>
FACEGAN_INLINE inline void filter_column(
    const Axis& y, const std::vector<std::vector<W>>& taps, int64_t o, int64_t from, int64_t to, const T* x, int64_t stride,
    W* FACEGAN_RESTRICT out, int64_t width) {
  const T* first = x + (y.phases[o % y.up].first + o / y.up * y.down + from) * stride;
  combine(false, out, 0, taps[o % y.up].data() + from, to - from, 1, width, [=](int64_t t, int64_t, int64_t i) FACEGAN_INLINE {
    return first[t * stride + i];
  });
}

/// Asks for `size` elements that are wanted some rows later: processors fetch ahead by themselves, but not across pages.
template <typename T>
FACEGAN_INLINE inline void prefetch([[maybe_unused]] const T* x, [[maybe_unused]] int64_t size) {
#if !defined(_MSC_VER)
  constexpr int64_t kLine = 64 / sizeof(T), kAhead = 4096 / sizeof(T);
  for (int64_t i = 0; i < size; i += kLine) __builtin_prefetch(x + kAhead + i);
#endif
}

/// Rows whose vertical taps precede their horizontal ones, as what was just stored is slow to load: up to 8, in half an L1 cache.
template <typename W>
int64_t rows_at_once(const Fir<W>& fir, int64_t c) {
  const int64_t pitch = (fir.x.high - fir.x.low) * c;
  return fir.separable ? std::clamp<int64_t>(16384 / int64_t(sizeof(W)) / std::max<int64_t>(pitch, 1), 1, 8) : 1;
}

/// Rows [begin, end) of one plane x [h, w] -> y [oh, ow] (c = 1) or sample [h, w, c] -> [oh, ow, c]. `padded` holds
/// `rows` rows of zeros. A row in W, which is y's own where T is W, else `scratch`, is finished by `finish(o, row, y_row)`.
template <typename T, typename W, typename F>
void fir_rows(const Fir<W>& fir, const T* x, T* y, int64_t c, int64_t begin, int64_t end, int64_t rows, W* padded, W* scratch, F finish) {
  const Axis &ay = fir.y, &ax = fir.x;
  const int64_t left = std::max<int64_t>(ax.low, 0), width = std::max<int64_t>(std::min(ax.high, ax.size) - left, 0) * c;
  const int64_t offset = (left - ax.low) * c, pitch = (ax.high - ax.low) * c, stride = ax.size * c;
  for (int64_t block = begin; block < end; block += rows) {
    const int64_t last = std::min(block + rows, end);
    const auto taps_within = [&](int64_t o) FACEGAN_INLINE {
      const Phase& phase = ay.phases[o % ay.up];
      const int64_t first = phase.first + o / ay.up * ay.down, from = std::clamp<int64_t>(-first, 0, phase.taps);
      return std::pair(from, std::clamp(ay.size - first, from, phase.taps));
    };
    if (fir.separable)
      for (int64_t o = block; o < last; ++o) {
        const auto [from, to] = taps_within(o);
        prefetch(x + (ay.phases[o % ay.up].first + o / ay.up * ay.down + to) * stride, stride * ay.down / ay.up);
        filter_column(ay, fir.vertical, o, from, to, x + left * c, stride, padded + (o - block) * pitch + offset, width);
      }
    for (int64_t o = block; o < last; ++o) {
      T* y_row = y + o * ax.out * c;
      W* row = scratch;
      if constexpr (std::is_same_v<T, W>) row = y_row;
      const auto [from, to] = fir.separable ? std::pair<int64_t, int64_t>(0, 1) : taps_within(o);
      if (from == to) std::fill(row, row + ax.out * c, W(0));
      for (int64_t t = from; t < to; ++t) {
        if (!fir.separable) filter_column(ay, fir.vertical, o, t, t + 1, x + left * c, stride, padded + offset, width);
        const int64_t tap = fir.separable ? 0 : ay.phases[o % ay.up].tap + t * ay.up;
        filter_row(ax, fir.horizontal[tap].data(), t > from, padded + (fir.separable ? o - block : 0) * pitch, row, c);
      }
      finish(o, row, y_row);
    }
  }
}

/// All of y [n, c, oh, ow], in parallel; `finish(plane, o, row, y_row)` as above, plane counting [n, c] or, channels_last, [n].
template <typename T, typename W, typename F>
void fir_maps(const Fir<W>& fir, const T* x, T* y, int64_t n, int64_t c, bool channels_last, const F& finish) {
  const int64_t planes = channels_last ? n : n * c, inner = channels_last ? c : 1;
  const int64_t row = std::max<int64_t>(fir.x.out * inner, 1), size = std::clamp<int64_t>(2 * kGrain / row, 1, fir.y.out);
  const int64_t per_plane = (fir.y.out + size - 1) / size, rows = rows_at_once(fir, inner);
  parallel(planes * per_plane, size * row, [&](int64_t first, int64_t last) {
    std::vector<W> padded(rows * (fir.x.high - fir.x.low) * inner), scratch(std::is_same_v<T, W> ? 0 : row);
    for (int64_t i = first; i < last; ++i) {
      const int64_t plane = i / per_plane, begin = i % per_plane * size;
      fir_rows(
          fir, x + plane * fir.y.size * fir.x.size * inner, y + plane * fir.y.out * row, inner, begin, std::min(begin + size, fir.y.out),
          rows, padded.data(), scratch.data(), [=](int64_t o, const W* wide, T* narrow) FACEGAN_INLINE { finish(plane, o, wide, narrow); });
    }
  });
}

}  // namespace facegan::cpu
