// The weight's gradient of a convolution, for maps in channels_last, float32: dw[o][ky][kx][c] = sum over n, y, x of
// dy[n][y][x][o] x[n][y stride + ky - pad][x stride + kx - pad][c].
//
// A block of 6 x 16 numbers of dw stays in registers while the pixels of a tile, of a few rows or a few small maps, are summed up: a
// multiply-add then costs two thirds of a load. For that the tile's pixels are copied so that those of a block lie side by side in the
// first-level cache.

#include <cstring>

#include "../operators.h"
#include "common.h"
#include "lanes.h"

namespace facegan::cpu {
namespace {

constexpr int64_t kTile = 256;               // pixels of dy
constexpr int64_t kPart = 512, kParts = 16;  // pixels at least and parts at most, each summed up apart, whatever the threads
constexpr int64_t kOutputs = 24;             // channels of dy that are worth a task of their own where there are few parts

struct Convolution {
  int64_t n, oh, ow, o, h, w, c, kh, kw, stride, pad;

  int64_t output() const { return kh * kw * c; }  // numbers of dw for one channel of dy
};

struct Range {
  int64_t first, last;  // without the last
};

/// For every tap along one axis, the pixels of dy, of `outputs`, that read a pixel of x, of `size`.
std::vector<Range> inside(int64_t taps, int64_t stride, int64_t pad, int64_t size, int64_t outputs) {
  std::vector<Range> ranges;
  for (int64_t tap = 0; tap < taps; ++tap)
    ranges.push_back(
        {tap < pad ? (pad - tap + stride - 1) / stride : 0,
         size - 1 + pad < tap ? 0 : std::min(outputs, (size - 1 + pad - tap) / stride + 1)});
  return ranges;
}

/// Some maps' rows of dy, and what they need of x: whole maps, or a part of one.
struct Tile {
  int64_t map, maps;
  Range rows;     // of dy, in each
  Range x_rows;   // of x
  int64_t pixels; // of dy in all
};

/// What a task sums: `x` [maps][x_rows][w][lanes * 8], 0 beyond x's channels, and `dy` in blocks of channels, each [pixels][channels].
struct Packed {
  std::vector<float> x, dy;
};

/// Channels of the next block of dy where so many are left.
inline int64_t block_size(int64_t left) { return left >= 6 && left != 8 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1; }

void pack_x(const Convolution& v, const Tile& t, const float* x, int64_t c, int64_t width, std::vector<float>& packed) {
  const int64_t rows = t.x_rows.last - t.x_rows.first, size = std::min(width, v.c - c);
  packed.resize(t.maps * rows * v.w * width);
  float* to = packed.data();
  for (int64_t map = t.map; map < t.map + t.maps; ++map) {
    const float* from = x + (map * v.h + t.x_rows.first) * v.w * v.c + c;
    for (int64_t pixel = 0; pixel < rows * v.w; ++pixel, from += v.c, to += width) {
      if (size == width) {
        FACEGAN_SIMD
        for (int64_t k = 0; k < width; ++k) to[k] = from[k];
      } else {
        for (int64_t k = 0; k < width; ++k) to[k] = k < size ? from[k] : 0.f;
      }
    }
  }
}

void pack_dy(const Convolution& v, const Tile& t, const float* dy, Range outputs, std::vector<float>& packed) {
  const int64_t rows = t.rows.last - t.rows.first;
  packed.resize(t.pixels * (outputs.last - outputs.first));
  float* to = packed.data();
  for (int64_t o = outputs.first; o < outputs.last;) {
    const int64_t size = block_size(outputs.last - o);
    for (int64_t map = t.map; map < t.map + t.maps; ++map) {
      const float* from = dy + (map * v.oh + t.rows.first) * v.ow * v.o + o;
      for (int64_t pixel = 0; pixel < rows * v.ow; ++pixel, from += v.o, to += size)
        for (int64_t i = 0; i < size; ++i) to[i] = from[i];
    }
    o += size;
  }
}

struct Taps {
  std::vector<Range> y, x;
};

/// Adds to dw[outputs][channels <= lanes * 8] of all taps the sums over the pixels of a tile.
template <int outputs, int lanes>
void add_block(const Convolution& v, const Tile& t, const Taps& taps, const float* dy, const float* x, float* dw, int64_t channels) {
  constexpr int64_t width = lanes * kLanes;
  const int64_t rows = t.rows.last - t.rows.first, x_rows = t.x_rows.last - t.x_rows.first;
  for (int64_t ky = 0; ky < v.kh; ++ky) {
    const int64_t top = std::max(t.rows.first, taps.y[ky].first), bottom = std::min(t.rows.last, taps.y[ky].last);
    for (int64_t kx = 0; kx < v.kw; ++kx) {
      const auto [first, last] = taps.x[kx];
      Lanes sums[outputs][lanes] = {};
      for (int64_t map = 0; map < t.maps; ++map)
        for (int64_t r = top; r < bottom; ++r) {
          const float* a = dy + ((map * rows + r - t.rows.first) * v.ow + first) * outputs;
          const float* b = x + ((map * x_rows + r * v.stride + ky - v.pad - t.x_rows.first) * v.w + first * v.stride + kx - v.pad) * width;
          for (int64_t pixel = first; pixel < last; ++pixel, a += outputs, b += v.stride * width) {
            Lanes row[lanes];
            for (int j = 0; j < lanes; ++j) row[j] = load(b + j * kLanes);
            for (int i = 0; i < outputs; ++i)
              for (int j = 0; j < lanes; ++j) sums[i][j] += a[i] * row[j];
          }
        }
      float sum[outputs][width];
      std::memcpy(sum, sums, sizeof sum);
      float* to = dw + (ky * v.kw + kx) * v.c;
      for (int i = 0; i < outputs; ++i, to += v.output()) {
        if (channels == width) {
          FACEGAN_SIMD
          for (int64_t k = 0; k < width; ++k) to[k] += sum[i][k];
        } else {
          for (int64_t k = 0; k < channels; ++k) to[k] += sum[i][k];
        }
      }
    }
  }
}

template <int lanes>
void add_outputs(const Convolution& v, const Tile& t, const Taps& taps, const Packed& packed, float* dw, Range outputs, int64_t channels) {
  const float* dy = packed.dy.data();
  for (int64_t o = outputs.first; o < outputs.last;) {
    const int64_t size = block_size(outputs.last - o);
    const auto add = size == 6   ? add_block<6, lanes>
                     : size == 4 ? add_block<4, lanes>
                     : size == 2 ? add_block<2, lanes>
                                 : add_block<1, lanes>;
    add(v, t, taps, dy, packed.x.data(), dw + o * v.output(), channels);
    dy += t.pixels * size;
    o += size;
  }
}

/// The tiles of a convolution, in order.
class Tiles {
 public:
  explicit Tiles(const Convolution& v) : v_(v) {
    const int64_t rows = std::max<int64_t>(1, kTile / (v.stride * v.ow));  // a stride reads more of x
    rows_ = std::min(rows, v.oh);
    maps_ = std::max<int64_t>(1, rows / v.oh);
    bands_ = (v.oh + rows_ - 1) / rows_;
  }
  int64_t count() const { return (v_.n + maps_ - 1) / maps_ * bands_; }
  Tile operator[](int64_t index) const {
    Tile t;
    t.map = index / bands_ * maps_;
    t.maps = std::min(maps_, v_.n - t.map);
    t.rows.first = index % bands_ * rows_;
    t.rows.last = std::min(v_.oh, t.rows.first + rows_);
    t.x_rows.first = std::clamp<int64_t>(t.rows.first * v_.stride - v_.pad, 0, v_.h);
    t.x_rows.last = std::clamp((t.rows.last - 1) * v_.stride + v_.kh - v_.pad, t.x_rows.first, v_.h);
    t.pixels = t.maps * (t.rows.last - t.rows.first) * v_.ow;
    return t;
  }

 private:
  Convolution v_;
  int64_t rows_, maps_, bands_;  // rows and maps of a tile, tiles of a map
};

/// Sums the given tiles up in dw, for some channels of dy.
void add_tiles(
    const Convolution& v, const Tiles& tiles, const Taps& taps, const float* dy, const float* x, float* dw, Range outputs, Range of) {
  Packed packed;
  for (int64_t index = of.first; index < of.last; ++index) {
    const Tile t = tiles[index];
    pack_dy(v, t, dy, outputs, packed.dy);
    for (int64_t c = 0; c < v.c;) {
      const bool two = v.c - c > kLanes;
      const int64_t width = two ? 2 * kLanes : kLanes, channels = std::min(width, v.c - c);
      pack_x(v, t, x, c, width, packed.x);
      (two ? add_outputs<2> : add_outputs<1>)(v, t, taps, packed, dw + c, outputs, channels);
      c += channels;
    }
  }
}

Tensor conv2d_weight_grad(Tensor dy, Tensor x, int64_t kh, int64_t kw, int64_t stride, int64_t pad) {
  const auto call = operators::Call("conv2d_weight_grad", x);
  STD_TORCH_CHECK(
      x.dim() == 4 && dy.dim() == 4 && x.scalar_type() == ScalarType::Float && dy.scalar_type() == ScalarType::Float &&
          operators::lies(x, true) && operators::lies(dy, true) && x.sizes()[0] == dy.sizes()[0],
      "facegan::conv2d_weight_grad takes float32 maps in channels_last.");
  const Convolution v{x.sizes()[0], dy.sizes()[2], dy.sizes()[3], dy.sizes()[1], x.sizes()[2], x.sizes()[3], x.sizes()[1], kh, kw, stride,
                      pad};
  const int64_t pixels = v.n * v.oh * v.ow, size = v.o * v.output();
  Tensor dw = call.empty_row({v.o, kh, kw, v.c});
  operators::zero(dw);
  if (pixels == 0 || size == 0 || x.numel() == 0) return dw;
  const Tiles tiles(v);
  const Taps taps{inside(kh, stride, pad, v.h, v.oh), inside(kw, stride, pad, v.w, v.ow)};
  const int64_t parts = std::clamp<int64_t>(pixels / kPart, 1, std::min(kParts, tiles.count()));
  const int64_t shares = parts < kParts / 2 ? (v.o + kOutputs - 1) / kOutputs : 1;  // each reads the whole of its part of x
  std::vector<float> others((parts - 1) * size);
  const auto of = [&](int64_t part) { return part == 0 ? written<float>(dw) : others.data() + (part - 1) * size; };
  parallel(parts * shares, pixels * size / (parts * shares), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t part = task / shares, share = task % shares;
      add_tiles(
          v, tiles, taps, read<float>(dy), read<float>(x), of(part), {v.o * share / shares, v.o * (share + 1) / shares},
          {tiles.count() * part / parts, tiles.count() * (part + 1) / parts});
    }
  });
  parallel(size, parts, [&](int64_t begin, int64_t end) {
    for (int64_t part = 1; part < parts; ++part) {
      const float* FACEGAN_RESTRICT from = of(part);
      float* FACEGAN_RESTRICT to = of(0);
      FACEGAN_SIMD
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
  return dw;
}

}  // namespace
}  // namespace facegan::cpu

STABLE_TORCH_LIBRARY_IMPL(facegan, CPU, library) { library.impl("conv2d_weight_grad", TORCH_BOX(&facegan::cpu::conv2d_weight_grad)); }
