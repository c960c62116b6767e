// A 3 x 3 convolution, or a whole synthesis layer around one, by Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin & Gray 2016,
// section 4.3): 36 products for 16 pixels in place of 144. Tiles overlap by two pixels. Modulation is folded into the pass over the input,
// the epilogue into the one over the output. Maps are channels_last, float32.
//
// For inference the two passes are operators of their own, around products that oneDNN does with a weight that was transformed before.
// In training a weight serves a few times only. `winograd_conv2d` does its own products and transforms the weight just before them, in
// the order in which they read it, and no more of it than a cache holds: a transformed weight is four times as large as the weight, and
// takes longer to write to memory and to read again than to make.

#include "../operators.h"
#include "common.h"
#include "lanes.h"

namespace facegan::cpu {
namespace {

constexpr int kIn = 6, kOut = 4, kTaps = 3;  // pixels of a tile along one axis, and of the kernel
constexpr int kPoints = kIn * kIn;
constexpr int64_t kBlock = 16;     // channels at a time
constexpr int64_t kRows = 6;       // tiles at a time in a product: its sums fill the registers
constexpr int64_t kShare = 256;    // tiles, at most, for which a weight is transformed once
constexpr int64_t kFew = 64;       // tiles whose transformed input may be read again for every 16 outputs
constexpr int64_t kInput = 64 << 20, kWeight = 10 << 20;  // bytes, at most, of what is transformed at a time
constexpr int64_t kApart = 16;     // numbers between two matrices: the same place of each would fall on one line of the cache

using Block = float[kBlock];

// The points of the interpolation are 0, +-3/4, +-3/2 and infinity, whose powers are exact. The usual 0, +-1, +-2 and infinity save a few
// multiplications of the transforms, and round four times as coarsely.
constexpr float kA = .75f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;

/// B^T d along one axis.
FACEGAN_INLINE inline void transform_input(const Lanes (&d)[kIn], Lanes (&v)[kIn]) {
  const Lanes even_a = d[4] - kB2 * d[2], odd_a = kA * (d[3] - kB2 * d[1]);
  const Lanes even_b = d[4] - kA2 * d[2], odd_b = kB * (d[3] - kA2 * d[1]);
  v[0] = kA2 * kB2 * d[0] - (kA2 + kB2) * d[2] + d[4];
  v[1] = even_a + odd_a;
  v[2] = even_a - odd_a;
  v[3] = even_b + odd_b;
  v[4] = even_b - odd_b;
  v[5] = kA2 * kB2 * d[1] - (kA2 + kB2) * d[3] + d[5];
}

/// G g along one axis.
FACEGAN_INLINE inline void transform_weight(const Lanes (&g)[kTaps], Lanes (&u)[kIn]) {
  constexpr float of_a = 1 / (2 * kA2 * (kA2 - kB2)), of_b = 1 / (2 * kB2 * (kB2 - kA2));
  const Lanes even_a = of_a * g[0] + of_a * kA2 * g[2], odd_a = of_a * kA * g[1];
  const Lanes even_b = of_b * g[0] + of_b * kB2 * g[2], odd_b = of_b * kB * g[1];
  u[0] = 1 / (kA2 * kB2) * g[0];
  u[1] = even_a + odd_a;
  u[2] = even_a - odd_a;
  u[3] = even_b + odd_b;
  u[4] = even_b - odd_b;
  u[5] = g[2];
}

/// A^T m along one axis.
FACEGAN_INLINE inline void transform_output(const Lanes (&m)[kIn], Lanes (&y)[kOut]) {
  const Lanes plus_a = m[1] + m[2], minus_a = m[1] - m[2], plus_b = m[3] + m[4], minus_b = m[3] - m[4];
  y[0] = m[0] + plus_a + plus_b;
  y[1] = kA * minus_a + kB * minus_b;
  y[2] = kA2 * plus_a + kB2 * plus_b;
  y[3] = kA * kA2 * minus_a + kB * kB2 * minus_b + m[5];
}

/// Applies `transform`, which takes `from` values to `to`, along both axes of a tile of channel blocks: `at(i, j)` has its numbers,
/// `put(i, j)` is where those of the result go.
template <int from, int to, typename Transform, typename At, typename Put>
FACEGAN_INLINE inline void both_axes(const Transform& transform, const At& at, const Put& put) {
  for (int64_t k = 0; k < kBlock; k += kLanes) {
    Lanes half[to][from];
    for (int column = 0; column < from; ++column) {
      Lanes a[from], b[to];
      for (int i = 0; i < from; ++i) a[i] = load(at(i, column) + k);
      transform(a, b);
      for (int i = 0; i < to; ++i) half[i][column] = b[i];
    }
    for (int row = 0; row < to; ++row) {
      Lanes b[to];
      transform(half[row], b);
      for (int i = 0; i < to; ++i) store(put(row, i) + k, b[i]);
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

/// How many numbers lie from one point, and from one tile, to the next.
struct Steps {
  int64_t point, tile;
};

/// v[36][tiles][c] of the tiles begin <= t < end, whose number `first` is v's row 0; s may be absent.
void input_tiles(const float* x, const float* s, float* v, Steps step, Map map, int64_t begin, int64_t end, int64_t first) {
  const Block zeros = {};
  for (int64_t t = begin; t < end; ++t) {
    const Tile tile(first + t, map.rows(), map.columns());
    const bool inner = tile.top > 0 && tile.left > 0 && tile.top + kIn - 1 <= map.h && tile.left + kIn - 1 <= map.w;
    const auto pixel = [&](int i, int j) { return x + map.at(tile.sample, tile.top + i - 1, tile.left + j - 1); };
    for (int64_t c = 0; c < map.c; c += kBlock) {
      float* to = v + t * step.tile + c;
      if (inner && !s && map.c - c >= kBlock) {
        both_axes<kIn, kIn>(
            transform_input, [&](int i, int j) { return pixel(i, j) + c; }, [&](int i, int j) { return to + (i * kIn + j) * step.point; });
        continue;
      }
      const int64_t size = std::min(kBlock, map.c - c);
      Block scale, d[kIn][kIn], out[kIn][kIn];
      for (int64_t k = 0; k < kBlock; ++k) scale[k] = s && k < size ? s[tile.sample * map.c + c + k] : 1.f;
      for (int i = 0; i < kIn; ++i)
        for (int j = 0; j < kIn; ++j) {
          const bool inside = map.inside(tile.top + i - 1, tile.left + j - 1);
          const float* from = inside ? pixel(i, j) + c : zeros;
          if (size == kBlock) {
            FACEGAN_SIMD
            for (int64_t k = 0; k < kBlock; ++k) d[i][j][k] = from[k] * scale[k];
          } else {
            for (int64_t k = 0; k < kBlock; ++k) d[i][j][k] = k < size ? from[k] * scale[k] : 0.f;
          }
        }
      both_axes<kIn, kIn>(transform_input, [&](int i, int j) { return d[i][j]; }, [&](int i, int j) { return out[i][j]; });
      for (int i = 0; i < kPoints; ++i) std::copy_n(out[i / kIn][i % kIn], size, to + i * step.point);
    }
  }
}

/// A weight [o][c][3][3] in any strides; `turned`, read from its last tap to its first.
struct Weight {
  const float* data;
  int64_t o, c, strides[4];
  bool turned;

  const float* at(int64_t output, int64_t channel, int y, int x) const {
    if (turned) y = kTaps - 1 - y, x = kTaps - 1 - x;
    return data + output * strides[0] + channel * strides[1] + y * strides[2] + x * strides[3];
  }
};

/// u[36][c][16], its matrices `step` numbers apart, of the outputs o .. o + 15, 0 beyond the last.
void weight_panel(const Weight& w, int64_t o, float* u, int64_t step) {
  const int64_t outputs = std::min(kBlock, w.o - o);
  for (int64_t c = 0; c < w.c; c += kBlock) {
    const int64_t size = std::min(kBlock, w.c - c);
    Block taps[kBlock][kTaps][kTaps];
    if (outputs < kBlock) std::memset(taps, 0, sizeof taps);
    const auto every_tap = [](const auto& f) {
      for (int i = 0; i < kTaps; ++i)
        for (int j = 0; j < kTaps; ++j) f(i, j);
    };
    // The axis along which the weight is dense is the inner one. The next numbers along the other lie too far apart to be foreseen.
    if (w.strides[0] < w.strides[1]) {
      for (int64_t channel = 0; channel < size; ++channel)
        every_tap([&](int i, int j) {
          const float* from = w.at(o, c + channel, i, j);
          FACEGAN_PREFETCH(from + kBlock * w.strides[1]);
          if (w.strides[0] == 1 && outputs == kBlock) {
            std::copy_n(from, kBlock, taps[channel][i][j]);
          } else {
            for (int64_t k = 0; k < outputs; ++k) taps[channel][i][j][k] = from[k * w.strides[0]];
          }
        });
    } else {
      for (int64_t k = 0; k < outputs; ++k)
        every_tap([&](int i, int j) {
          const float* from = w.at(o + k, c, i, j);
          FACEGAN_PREFETCH(from + 2 * kBlock * w.strides[1]);
          for (int64_t channel = 0; channel < size; ++channel) taps[channel][i][j][k] = from[channel * w.strides[1]];
        });
    }
    for (int64_t channel = 0; channel < size; ++channel) {
      float* to = u + (c + channel) * kBlock;
      both_axes<kTaps, kIn>(
          transform_weight, [&](int i, int j) { return taps[channel][i][j]; }, [&](int i, int j) { return to + (i * kIn + j) * step; });
    }
  }
}

/// m[rows][16] = v[rows][c] u[c][16]
template <int rows>
void product(const float* v, const float* u, float* m, int64_t c) {
  constexpr int lanes = kBlock / kLanes;
  Lanes sums[rows][lanes];
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < lanes; ++j) sums[i][j] = Lanes{};
  for (int64_t k = 0; k < c; ++k, u += kBlock) {
    Lanes row[lanes];
    for (int j = 0; j < lanes; ++j) row[j] = load(u + j * kLanes);
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < lanes; ++j) sums[i][j] += v[i * c + k] * row[j];
  }
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < lanes; ++j) store(m + i * kBlock + j * kLanes, sums[i][j]);
}

/// m[tiles][16] = v[tiles][c] u[c][16]
void products(const float* v, const float* u, float* m, int64_t tiles, int64_t c) {
  for (int64_t t = 0; t < tiles; t += kRows, v += kRows * c, m += kRows * kBlock) switch (std::min(kRows, tiles - t)) {
      case 1: product<1>(v, u, m, c); break;
      case 2: product<2>(v, u, m, c); break;
      case 3: product<3>(v, u, m, c); break;
      case 4: product<4>(v, u, m, c); break;
      case 5: product<5>(v, u, m, c); break;
      default: product<kRows>(v, u, m, c);
    }
}

/// The epilogue's arguments, each of which may be absent.
struct Epilogue {
  const float *d, *noise, *b;
  int64_t noise_batch;
};

/// The channels c .. c + 15 of the tiles begin <= t < end, whose number `first` is m's row 0, from m[36][tiles][16].
template <typename A>
void output_tiles(
    const float* m, Steps step, float* y, Epilogue e, A activation, Map map, int64_t c, int64_t begin, int64_t end, int64_t first) {
  const int64_t size = std::min(kBlock, map.c - c);
  for (int64_t t = begin; t < end; ++t) {
    const Tile tile(first + t, map.rows(), map.columns());
    Block scale, bias, out[kOut][kOut];
    for (int64_t k = 0; k < kBlock; ++k) {
      scale[k] = e.d && k < size ? e.d[tile.sample * map.c + c + k] : 1.f;
      bias[k] = e.b && k < size ? e.b[c + k] : 0.f;
    }
    const float* from = m + t * step.tile;
    const auto put = [&](int i, int j) { return out[i][j]; };
    if (step.tile == kBlock || size == kBlock) {
      both_axes<kIn, kOut>(transform_output, [&](int i, int j) { return from + (i * kIn + j) * step.point; }, put);
    } else {
      Block in[kIn][kIn] = {};
      for (int i = 0; i < kPoints; ++i) std::copy_n(from + i * step.point, size, in[i / kIn][i % kIn]);
      both_axes<kIn, kOut>(transform_output, [&](int i, int j) { return in[i][j]; }, put);
    }
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

void winograd_input(Tensor x, Tensor s, Tensor v, int64_t h, int64_t w, int64_t c, int64_t first, int64_t tiles) {
  parallel(tiles, kPoints * c, [&](int64_t begin, int64_t end) {
    input_tiles(read<float>(x), read<float>(s), written<float>(v), {c, kPoints * c}, Map{h, w, c}, begin, end, first);
  });
}

void winograd_output(
    Tensor m, OptionalTensor d, OptionalTensor noise, OptionalTensor b, Tensor y, int64_t h, int64_t w, int64_t c, int64_t first,
    int64_t tiles, int64_t noise_batch, std::string act, double alpha, double gain, std::optional<double> clamp) {
  const Epilogue e{read<float>(d), read<float>(noise), read<float>(b), noise_batch};
  with_activation<float>(
      operators::kind("winograd_output", act), alpha, gain, operators::limit(clamp, ScalarType::Float), [&](auto activation) {
    parallel(tiles, kPoints * c, [&](int64_t begin, int64_t end) {
      for (int64_t of = 0; of < c; of += kBlock)
        output_tiles(read<float>(m) + of, {c, kPoints * c}, written<float>(y), e, activation, Map{h, w, c}, of, begin, end, first);
    });
  });
}

Tensor winograd_conv2d(
    Tensor x, Tensor w, OptionalTensor s, OptionalTensor d, OptionalTensor noise, OptionalTensor b, bool flip_weight, std::string act,
    double alpha, double gain, std::optional<double> clamp) {
  const auto call = operators::Call("winograd_conv2d", x);
  STD_TORCH_CHECK(
      x.dim() == 4 && w.dim() == 4 && x.scalar_type() == ScalarType::Float && w.scalar_type() == ScalarType::Float &&
          operators::lies(x, true) && w.size(1) == x.size(1) && w.size(2) == kTaps && w.size(3) == kTaps && x.numel() > 0,
      "facegan::winograd_conv2d takes a float32 map in channels_last and a 3 x 3 weight.");
  const auto fits = [](const OptionalTensor& t, int64_t numel) {
    return !t || (t->scalar_type() == ScalarType::Float && t->is_contiguous() && t->numel() == numel);
  };
  const int64_t samples = noise && noise->dim() == 4 && noise->size(0) == 1 ? 1 : x.size(0);
  STD_TORCH_CHECK(
      fits(s, x.size(0) * x.size(1)) && fits(d, x.size(0) * w.size(0)) && fits(b, w.size(0)) &&
          fits(noise, samples * x.size(2) * x.size(3)),
      "facegan::winograd_conv2d takes s [N, C], d [N, O], noise [1 or N, 1, H, W] and b [O], float32 in rows.");
  const Map in{x.size(2), x.size(3), x.size(1)}, out{in.h, in.w, w.size(0)};
  const Weight weight{read<float>(w), out.c, in.c, {w.stride(0), w.stride(1), w.stride(2), w.stride(3)}, !flip_weight};
  const Epilogue e{read<float>(d), read<float>(noise), read<float>(b), samples};
  Tensor y = call.empty_map({x.size(0), out.c, out.h, out.w});
  const int64_t all = x.size(0) * in.rows() * in.columns(), bytes = sizeof(float) * kPoints * in.c;  // of a tile
  const int64_t chunk = std::min(all, std::max(kShare, kInput / bytes)), step = chunk * in.c + kApart;
  const int64_t panels = (out.c + kBlock - 1) / kBlock;
  const Tensor v = call.empty_row({kPoints * step});
  large_pages(v, y);
  with_activation<float>(call.act(act), alpha, gain, call.limit(clamp), [&](auto activation) {
    for (int64_t first = 0; first < all; first += chunk) {
      const int64_t tiles = std::min(chunk, all - first), shares = (tiles + kShare - 1) / kShare;
      const int64_t fair = std::max<int64_t>(1, shares * panels / int64_t(torch::stable::get_num_threads()));
      const int64_t together = tiles <= kFew ? 1 : std::clamp<int64_t>(kWeight / (bytes * kBlock), 1, std::min(fair, panels));
      const int64_t groups = (panels + together - 1) / together;
      parallel(tiles, kPoints * in.c, [&](int64_t begin, int64_t end) {
        input_tiles(read<float>(x), read<float>(s), written<float>(v), {step, in.c}, in, begin, end, first);
      });
      parallel(shares * groups, tiles / shares * in.c * kBlock * together, [&](int64_t begin, int64_t end) {
        const int64_t rows = (tiles + shares - 1) / shares, u_step = in.c * kBlock + kApart, m_step = rows * kBlock + kApart;
        const Tensor u = call.empty_row({together * kPoints * u_step}), m = call.empty_row({together * kPoints * m_step});
        large_pages(u, m);
        const auto u_of = [&](int64_t panel) { return written<float>(u) + panel * kPoints * u_step; };
        const auto m_of = [&](int64_t panel) { return written<float>(m) + panel * kPoints * m_step; };
        for (int64_t task = begin; task < end; ++task) {
          const int64_t share = task / groups, group = task % groups * together, count = std::min(together, panels - group);
          const int64_t from = tiles * share / shares, size = tiles * (share + 1) / shares - from;
          for (int64_t panel = 0; panel < count; ++panel) weight_panel(weight, (group + panel) * kBlock, u_of(panel), u_step);
          for (int64_t i = 0; i < kPoints; ++i)
            for (int64_t panel = 0; panel < count; ++panel)
              products(read<float>(v) + i * step + from * in.c, u_of(panel) + i * u_step, m_of(panel) + i * m_step, size, in.c);
          for (int64_t panel = 0; panel < count; ++panel)
            output_tiles(
                m_of(panel), {m_step, kBlock}, written<float>(y), e, activation, out, (group + panel) * kBlock, 0, size, first + from);
        }
      });
    }
  });
  return y;
}

}  // namespace
}  // namespace facegan::cpu

STABLE_TORCH_LIBRARY_IMPL(facegan, CPU, library) {
  library.impl("winograd_input", TORCH_BOX(&facegan::cpu::winograd_input));
  library.impl("winograd_output", TORCH_BOX(&facegan::cpu::winograd_output));
  library.impl("winograd_conv2d", TORCH_BOX(&facegan::cpu::winograd_conv2d));
}
