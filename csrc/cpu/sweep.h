// One pass over maps [n, c, hw] or [n, hw, c], with sums over pixels or channels on the way.
//
// The maps are cut into chunks, ranges of pixels of one plane, or of one sample with all its channels, whose size depends on the
// shape alone: results are the same for any number of threads. Sums are taken in W over at most 4096 elements, in double across.
#pragma once

#include "common.h"

namespace facegan::cpu {

struct Maps {
  int64_t n, c, hw;
  bool channels_last;

  int64_t pixels() const {  // per chunk
    return std::min<int64_t>(hw, std::clamp<int64_t>(131072 / std::max<int64_t>(c, 1), 512, 4096));
  }
  int64_t chunks() const { return hw == 0 ? 0 : (hw + pixels() - 1) / pixels(); }  // per sample
};

/// What an element contributes: to sums over its channel's pixels and to the sum over its pixel's channels.
template <typename W, int kSums>
struct Terms {
  W channel[kSums > 0 ? kSums : 1];
  W pixel;
};

/// A chunk of NCHW maps with sums over channels: channel by channel; a channel's sums stay in registers, the pixels' in a row.
template <int kSums, typename W, typename F>
void planes_chunk(
    F element, Maps m, int64_t sample, int64_t begin, int64_t end, double* FACEGAN_RESTRICT sums, W* FACEGAN_RESTRICT pixel_sums) {
  for (int64_t ch = 0; ch < m.c; ++ch) {
    const int64_t k = sample * m.c + ch, map = k * m.hw, plane = sample * m.hw;
    W s0 = 0, s1 = 0, s2 = 0;
    FACEGAN_SIMD_SUM(s0, s1, s2)
    for (int64_t p = begin; p < end; ++p) {
      const auto terms = element(map + p, k, plane + p);
      if constexpr (kSums > 0) s0 += terms.channel[0];
      if constexpr (kSums > 1) s1 += terms.channel[1];
      if constexpr (kSums > 2) s2 += terms.channel[2];
      pixel_sums[p - begin] += terms.pixel;
    }
    if constexpr (kSums > 0) sums[ch] = s0;
    if constexpr (kSums > 1) sums[m.c + ch] = s1;
    if constexpr (kSums > 2) sums[2 * m.c + ch] = s2;
  }
}

/// Pixels [begin, end) of plane k of NCHW maps; a sum is taken in W over 4096 of them.
template <int kSums, typename W, typename F>
void plane(F element, Maps m, int64_t k, int64_t begin, int64_t end, double* FACEGAN_RESTRICT sums) {
  const int64_t map = k * m.hw, first = k / m.c * m.hw;
  if constexpr (kSums == 0) {
    FACEGAN_SIMD
    for (int64_t p = begin; p < end; ++p) element(map + p, k, first + p);
  } else {
    for (int64_t block = begin; block < end; block += 4096) {
      W s0 = 0, s1 = 0, s2 = 0;
      FACEGAN_SIMD_SUM(s0, s1, s2)
      for (int64_t p = block; p < std::min(block + 4096, end); ++p) {
        const auto terms = element(map + p, k, first + p);
        s0 += terms.channel[0];
        if constexpr (kSums > 1) s1 += terms.channel[1];
        if constexpr (kSums > 2) s2 += terms.channel[2];
      }
      sums[0] += s0;
      if constexpr (kSums > 1) sums[1] += s1;
      if constexpr (kSums > 2) sums[2] += s2;
    }
  }
}

/// NCHW maps without sums over channels: memory in its order, as a range of pixels of every channel costs a page each.
template <int kSums, typename W, typename F>
void sweep_planes(const Maps& m, double* sums, const F& element) {
  if (m.hw == 0) return std::fill(sums, sums + kSums * m.n * m.c, 0.0);
  const int64_t size = std::min<int64_t>(m.hw, 65536), per_plane = (m.hw + size - 1) / size;
  std::vector<double> partial(kSums * m.n * m.c * per_plane);
  parallel(m.n * m.c * per_plane, size, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t begin = i % per_plane * size;
      plane<kSums, W>(element, m, i / per_plane, begin, std::min(begin + size, m.hw), partial.data() + i * kSums);
    }
  });
  for (int64_t k = 0; k < m.n * m.c; ++k)
    for (int64_t s = 0; s < kSums; ++s) {
      double& sum = sums[s * m.n * m.c + k] = 0;
      for (int64_t i = k * per_plane; i < (k + 1) * per_plane; ++i) sum += partial[i * kSums + s];
    }
}

/// A chunk of channels_last maps: pixel by pixel; `block` [kSums, c] takes the channels' sums of up to 256 pixels.
template <int kSums, bool kPixelSums, typename W, typename F>
void pixels_chunk(
    F element, Maps m, int64_t sample, int64_t begin, int64_t end, double* FACEGAN_RESTRICT sums, W* FACEGAN_RESTRICT pixel_sums,
    W* FACEGAN_RESTRICT block) {
  for (int64_t first = begin; first < end; first += 256) {
    std::fill(block, block + kSums * m.c, W(0));
    for (int64_t p = first; p < std::min(first + 256, end); ++p) {
      const int64_t pixel = sample * m.hw + p, map = pixel * m.c, k = sample * m.c;
      if constexpr (kSums == 0 && !kPixelSums) {
        FACEGAN_SIMD
        for (int64_t ch = 0; ch < m.c; ++ch) element(map + ch, k + ch, pixel);
      } else {
        W sum = 0;
        FACEGAN_SIMD_SUM(sum)
        for (int64_t ch = 0; ch < m.c; ++ch) {
          const auto terms = element(map + ch, k + ch, pixel);
          if constexpr (kSums > 0) block[ch] += terms.channel[0];
          if constexpr (kSums > 1) block[m.c + ch] += terms.channel[1];
          if constexpr (kSums > 2) block[2 * m.c + ch] += terms.channel[2];
          if constexpr (kPixelSums) sum += terms.pixel;
        }
        if constexpr (kPixelSums) pixel_sums[p - begin] = sum;
      }
    }
    for (int64_t i = 0; i < kSums * m.c; ++i) sums[i] += block[i];
  }
}

/// Calls `element(i, k, p)` for every element i, with channel k of [n, c] and pixel p of [n, hw]. It returns Terms<W, kSums>,
/// whose sums go to `sums` [kSums, n, c] in double and, if kPixelSums, to `pixel_sums` [n, hw].
template <int kSums, bool kPixelSums, typename W, typename F>
void sweep(const Maps& m, double* sums, W* pixel_sums, const F& element) {
  if (!kPixelSums && !m.channels_last) return sweep_planes<kSums, W>(m, sums, element);
  const int64_t per_sample = m.chunks(), size = m.pixels();
  std::vector<double> partial(kSums * m.n * per_sample * m.c);
  parallel(m.n * per_sample, m.c * size, [&](int64_t first, int64_t last) {
    std::vector<W> block(kSums * m.c);
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t sample = chunk / per_sample, begin = chunk % per_sample * size, end = std::min(begin + size, m.hw);
      double* chunk_sums = partial.data() + chunk * kSums * m.c;
      W* row = kPixelSums ? pixel_sums + sample * m.hw + begin : nullptr;
      if (m.channels_last) {
        pixels_chunk<kSums, kPixelSums, W>(element, m, sample, begin, end, chunk_sums, row, block.data());
      } else if constexpr (kPixelSums) {
        std::fill(row, row + (end - begin), W(0));
        planes_chunk<kSums, W>(element, m, sample, begin, end, chunk_sums, row);
      }
    }
  });
  for (int64_t i = 0; i < kSums * m.n * m.c; ++i) sums[i] = 0;
  for (int64_t chunk = 0; chunk < m.n * per_sample; ++chunk)
    for (int64_t s = 0; s < kSums; ++s)
      for (int64_t ch = 0; ch < m.c; ++ch) sums[(s * m.n + chunk / per_sample) * m.c + ch] += partial[(chunk * kSums + s) * m.c + ch];
}

/// The pass without sums.
template <typename F>
void sweep(const Maps& m, const F& element) {
  sweep<0, false, float>(m, nullptr, nullptr, element);
}

}  // namespace facegan::cpu
