// The two passes around the products of a 3 x 3 convolution by Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin & Gray 2016,
// section 4.3): 36 products for 16 pixels in place of 144. Tiles overlap by two pixels; the products are a batched matrix product
// [tiles, 36, c] x [36, c, o] over the 36, which the library does. Modulation is folded into the first pass, the epilogue into the second.
// Maps are channels_last, float32.

#include "../operators.h"
#include "common.h"

namespace facegan::cpu {
namespace {

constexpr int kIn = 6, kOut = 4;  // pixels of a tile, along one axis
constexpr int64_t kBlock = 16;    // channels at a time

using Block = float[kBlock];

/// B^T d along one axis.
FACEGAN_INLINE inline void transform_input(const float (&d)[kIn], float (&v)[kIn]) {
  v[0] = 4 * d[0] - 5 * d[2] + d[4];
  v[1] = -4 * (d[1] + d[2]) + d[3] + d[4];
  v[2] = 4 * (d[1] - d[2]) - d[3] + d[4];
  v[3] = 2 * (d[3] - d[1]) - d[2] + d[4];
  v[4] = 2 * (d[1] - d[3]) - d[2] + d[4];
  v[5] = 4 * d[1] - 5 * d[3] + d[5];
}

/// A^T m along one axis.
FACEGAN_INLINE inline void transform_output(const float (&m)[kIn], float (&y)[kOut]) {
  const float plus12 = m[1] + m[2], minus12 = m[1] - m[2], plus34 = m[3] + m[4], minus34 = m[3] - m[4];
  y[0] = m[0] + plus12 + plus34;
  y[1] = minus12 + 2 * minus34;
  y[2] = plus12 + 4 * plus34;
  y[3] = minus12 + 8 * minus34 + m[5];
}

/// Applies `transform`, which takes `from` values to `to`, along both axes of a tile of channel blocks.
template <int from, int to, typename F>
FACEGAN_INLINE inline void both_axes(const Block (&in)[from][from], Block (&out)[to][to], const F& transform) {
  Block half[to][from];
  for (int column = 0; column < from; ++column) {
    FACEGAN_SIMD
    for (int64_t k = 0; k < kBlock; ++k) {
      float a[from], b[to];
      for (int i = 0; i < from; ++i) a[i] = in[i][column][k];
      transform(a, b);
      for (int i = 0; i < to; ++i) half[i][column][k] = b[i];
    }
  }
  for (int row = 0; row < to; ++row) {
    FACEGAN_SIMD
    for (int64_t k = 0; k < kBlock; ++k) {
      float a[from], b[to];
      for (int i = 0; i < from; ++i) a[i] = half[row][i][k];
      transform(a, b);
      for (int i = 0; i < to; ++i) out[row][i][k] = b[i];
    }
  }
}

/// Where a tile lies: its sample and the first pixel that it writes.
struct Tile {
  int64_t sample, top, left;
  Tile(int64_t index, int64_t rows, int64_t columns)
      : sample(index / (rows * columns)), top(index / columns % rows * kOut), left(index % columns * kOut) {}
};

struct Map {
  int64_t h, w, c;
  int64_t rows() const { return (h + kOut - 1) / kOut; }
  int64_t columns() const { return (w + kOut - 1) / kOut; }
  bool inside(int64_t y, int64_t x) const { return y >= 0 && y < h && x >= 0 && x < w; }
  int64_t at(int64_t sample, int64_t y, int64_t x) const { return ((sample * h + y) * w + x) * c; }
};

/// v[tiles][36][c] of the tiles begin <= t < end, whose number `first` is v's row 0.
void input_tiles(const float* x, const float* s, float* v, Map map, int64_t begin, int64_t end, int64_t first) {
  for (int64_t t = begin; t < end; ++t) {
    const Tile tile(first + t, map.rows(), map.columns());
    for (int64_t c = 0; c < map.c; c += kBlock) {
      const int64_t size = std::min(kBlock, map.c - c);
      Block scale, d[kIn][kIn], out[kIn][kIn];
      for (int64_t k = 0; k < kBlock; ++k) scale[k] = k < size ? s[tile.sample * map.c + c + k] : 0.f;
      for (int i = 0; i < kIn; ++i)
        for (int j = 0; j < kIn; ++j) {
          const int64_t y = tile.top + i - 1, z = tile.left + j - 1;
          const float* pixel = x + map.at(tile.sample, y, z) + c;
          if (!map.inside(y, z)) {
            for (int64_t k = 0; k < kBlock; ++k) d[i][j][k] = 0;
          } else if (size == kBlock) {
            FACEGAN_SIMD
            for (int64_t k = 0; k < kBlock; ++k) d[i][j][k] = pixel[k] * scale[k];
          } else {
            for (int64_t k = 0; k < kBlock; ++k) d[i][j][k] = k < size ? pixel[k] * scale[k] : 0.f;
          }
        }
      both_axes<kIn, kIn>(d, out, transform_input);
      for (int i = 0; i < kIn * kIn; ++i) std::copy_n(out[i / kIn][i % kIn], size, v + (t * kIn * kIn + i) * map.c + c);
    }
  }
}

/// The epilogue's arguments; d, noise and b may be absent.
struct Epilogue {
  const float *d, *noise, *b;
  int64_t noise_batch;
};

/// The pixels of the tiles begin <= t < end, from m[tiles][36][c].
template <typename A>
void output_tiles(const float* m, float* y, Epilogue e, A activation, Map map, int64_t begin, int64_t end, int64_t first) {
  for (int64_t t = begin; t < end; ++t) {
    const Tile tile(first + t, map.rows(), map.columns());
    for (int64_t c = 0; c < map.c; c += kBlock) {
      const int64_t size = std::min(kBlock, map.c - c);
      Block scale, bias, in[kIn][kIn], out[kOut][kOut];
      for (int64_t k = 0; k < kBlock; ++k) {
        scale[k] = e.d && k < size ? e.d[tile.sample * map.c + c + k] : 1.f;
        bias[k] = e.b && k < size ? e.b[c + k] : 0.f;
      }
      for (int i = 0; i < kIn * kIn; ++i) std::copy_n(m + (t * kIn * kIn + i) * map.c + c, size, in[i / kIn][i % kIn]);
      both_axes<kIn, kOut>(in, out, transform_output);
      for (int i = 0; i < kOut && tile.top + i < map.h; ++i)
        for (int j = 0; j < kOut && tile.left + j < map.w; ++j) {
          const int64_t pixel = map.at(tile.sample, tile.top + i, tile.left + j);
          const float noise = e.noise ? e.noise[pixel / map.c - (e.noise_batch == 1 ? tile.sample * map.h * map.w : 0)] : 0.f;
          FACEGAN_SIMD
          for (int64_t k = 0; k < kBlock; ++k) out[i][j][k] = activation(epilogue(out[i][j][k], scale[k], noise, bias[k]));
          std::copy_n(out[i][j], size, y + pixel + c);
        }
    }
  }
}

void winograd_input(Tensor x, Tensor s, Tensor v, int64_t h, int64_t w, int64_t c, int64_t first, int64_t tiles) {
  parallel(tiles, kIn * kIn * c, [&](int64_t begin, int64_t end) {
    input_tiles(read<float>(x), read<float>(s), written<float>(v), Map{h, w, c}, begin, end, first);
  });
}

void winograd_output(
    Tensor m, OptionalTensor d, OptionalTensor noise, OptionalTensor b, Tensor y, int64_t h, int64_t w, int64_t c, int64_t first,
    int64_t tiles, int64_t noise_batch, std::string act, double alpha, double gain, std::optional<double> clamp) {
  const Epilogue e{read<float>(d), read<float>(noise), read<float>(b), noise_batch};
  with_activation<float>(operators::kind("winograd_output", act), alpha, gain, clamp.value_or(0), [&](auto activation) {
    parallel(tiles, kIn * kIn * c, [&](int64_t begin, int64_t end) {
      output_tiles(read<float>(m), written<float>(y), e, activation, Map{h, w, c}, begin, end, first);
    });
  });
}

}  // namespace
}  // namespace facegan::cpu

STABLE_TORCH_LIBRARY_IMPL(facegan, CPU, library) {
  library.impl("winograd_input", TORCH_BOX(&facegan::cpu::winograd_input));
  library.impl("winograd_output", TORCH_BOX(&facegan::cpu::winograd_output));
}
