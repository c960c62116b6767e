// FIR filtering of maps with zero-insertion before it or decimation after it, from tiles in shared memory.
//
// Per axis, with tap[t] = f[K - 1 - t] (f[t] when flipped): y[o] = sum_t tap[t] xup[o down + t - pad], where xup is x with zeros
// inserted. Only taps that meet a pixel are multiplied: of o's taps t0, t0 + up, ..., the first meets pixel ceil((o down - pad) / up).
//
// Two kernels serve separable filters of up to 4 taps with up or down 1 or 2 (the networks' case): `fir_planes` for NCHW, and
// `fir_pixels` for channels_last. A block loads its input with halo once, by 16-byte accesses; a thread filters along the row
// and keeps the few filtered rows that the column filter needs in registers while it walks down. `fir_any` serves the rest.
#pragma once

#include "cuda/tiles.cuh"

namespace facegan {

struct Fir {
  int64_t n, c;
  int h, w, oh, ow, kh, kw;  // kw 0: f is [kh], along both axes
  int up_y, up_x, down_y, down_x, pad_top, pad_left;
  bool flip;
  double gain;
};

/// The body of a plain FIR: nothing happens to its result.
template <typename T_, int VEC, bool LAST>
struct Plain : Body<T_, VEC, LAST> {
  static constexpr bool kResamples = true;
  struct Thread {};
  __device__ void channel(Thread&, int64_t, int64_t) const {}
  __device__ void pixel(Thread&, int64_t, int64_t) const {}
  __device__ void transform(const Thread&, Values<acc_t<T_>, VEC>&) const {}
};

constexpr int kTaps = 4;  // of the fast kernels; shorter filters are padded with zeros

/// Geometry that the fast kernels share, for one axis.
template <int UP, int DOWN>
struct Resampling {
  static constexpr int kStrip = UP == 2 ? 8 : 4;               // output rows of one thread
  static constexpr int kStripInput = kStrip * DOWN / UP;       // input rows that it advances by
  static constexpr int kHalo = UP == 2 ? 2 : kTaps - DOWN;     // input that a run of outputs needs beyond its own
  static constexpr int kMet = kTaps / UP;                      // taps that meet a pixel

  /// The first input of output o's window.
  static __device__ __forceinline__ int first(int o, int pad) { return UP == 2 ? (o - pad + 1) >> 1 : o * DOWN - pad; }

  /// Filters the column of a strip: `filtered(m)` is input row m of the strip, filtered along the row; `emit(j, v)` takes output j.
  /// For UP 2, strips start where the first tap meets a pixel.
  template <typename V, typename Filtered, typename Emit>
  static __device__ __forceinline__ void walk(const float (&taps)[kTaps], const Filtered& filtered, const Emit& emit) {
    V rows[kTaps / UP];
#pragma unroll
    for (int m = 0; m < kStripInput + kHalo; ++m) {
      rows[m % kMet] = filtered(m);
      if constexpr (UP == 2) {  // rows m - 1 and m: outputs 2 m - 3 by taps 1 and 3, 2 m - 2 by taps 0 and 2
        if (m >= 2) emit(2 * m - 3, combine(taps[1], rows[(m + 1) % 2], taps[3], rows[m % 2]));
        if (m >= 1 && 2 * m - 2 < kStrip) emit(2 * m - 2, combine(taps[0], rows[(m + 1) % 2], taps[2], rows[m % 2]));
      } else if (m >= kTaps - 1 && (m - (kTaps - 1)) % DOWN == 0) {
        V v = combine(taps[0], rows[(m + 1) % 4], taps[1], rows[(m + 2) % 4]);
        const V w = combine(taps[2], rows[(m + 3) % 4], taps[3], rows[m % 4]);
#pragma unroll
        for (int i = 0; i < int(sizeof(v.v) / sizeof(v.v[0])); ++i) v.v[i] += w.v[i];
        emit((m - (kTaps - 1)) / DOWN, v);
      }
    }
  }

 private:
  template <typename V>
  static __device__ __forceinline__ V combine(float a, const V& x, float b, const V& y) {
    V v;
#pragma unroll
    for (int i = 0; i < int(sizeof(v.v) / sizeof(v.v[0])); ++i) v.v[i] = a * x.v[i] + b * y.v[i];
    return v;
  }
};

__device__ __forceinline__ void read_taps(float (&taps)[kTaps], const Fir& f, const float* filter, float gain) {
#pragma unroll
  for (int t = 0; t < kTaps; ++t) taps[t] = t < f.kh ? gain * filter[f.flip ? t : f.kh - 1 - t] : 0.0f;
}

/// How a block's threads lie over its tile: `lanes` along the row, `strips` down, and `slots` (planes) or channel vectors.
struct FirTiling {
  int lanes_log2 = 0, strips_log2 = 0, slots_log2 = 0;
  int pitch = 0;  // of a tile's row in shared memory, in elements
  uint32_t tiles_x = 1, tiles_y = 1;

  int threads() const { return 1 << (lanes_log2 + strips_log2 + slots_log2); }
};

/// NCHW. The tile is float [slots, rows, pitch]; one element of padding after every kStep keeps the lanes in different banks.
template <typename B, int UP, int DOWN>
__global__ void __launch_bounds__(128) fir_planes(
    const Fir f, const FirTiling t, const B body, const typename B::T* x, const float* filter, typename B::T* y, bool vector_store) {
  using T = typename B::T;
  using R = Resampling<UP, DOWN>;
  using V = typename B::Elements;
  constexpr int VEC = B::kVec, kStep = VEC * DOWN / UP, kWindow = kStep + R::kHalo;
  float* tile = reinterpret_cast<float*>(shared_memory);
  const int lanes = 1 << t.lanes_log2, strips = 1 << t.strips_log2, slots = 1 << t.slots_log2;
  const int rows = strips * R::kStripInput + R::kHalo, columns = lanes * kStep + R::kHalo;
  const uint32_t tile_x = blockIdx.x % t.tiles_x, rest = blockIdx.x / t.tiles_x;
  const int64_t planes = f.n * f.c, first_plane = int64_t(rest / t.tiles_y) * slots;
  const int odd = UP == 2 ? f.pad_top & 1 : 0;
  const int oy0 = int(rest % t.tiles_y) * strips * R::kStrip - odd, ox0 = int(tile_x) * lanes * VEC;
  const int iy0 = R::first(oy0, f.pad_top), ix0 = R::first(ox0, f.pad_left);

  // Rows start anywhere, so a row is read from the last multiple of 16 bytes on. An aligned access that holds one element of x
  // stays within x's allocation; what it holds besides is left out.
  const uint32_t accesses = (columns + 2 * VEC - 2) / VEC, all = slots * rows * accesses;
  for (uint32_t i = threadIdx.x; i < all; i += blockDim.x) {
    const uint32_t row = i / accesses, slot = row / rows;
    const int iy = iy0 + int(row - slot * rows);
    const int64_t plane = first_plane + slot;
    const bool inside = plane < planes && iy >= 0 && iy < f.h;
    const T* start = x + ((plane * f.h + iy) * f.w + ix0);
    const int before = int(reinterpret_cast<uintptr_t>(start) / sizeof(T) % VEC);
    const int column = int(i - row * accesses) * VEC - before;  // of the access' first element, in the tile
    V v{};
    if (inside && ix0 + column + VEC > 0 && ix0 + column < f.w) v = widen(load<VEC>(start + column));
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const int at = column + j;
      if (at >= 0 && at < columns) tile[row * t.pitch + at + at / kStep] = ix0 + at >= 0 && ix0 + at < f.w ? v.v[j] : 0.0f;
    }
  }
  __syncthreads();

  const int lane = threadIdx.x & (lanes - 1), strip = (threadIdx.x >> t.lanes_log2) & (strips - 1);
  const int slot = threadIdx.x >> (t.lanes_log2 + t.strips_log2);
  const int64_t plane = first_plane + slot;
  const int ox = ox0 + lane * VEC, oy = oy0 + strip * R::kStrip;
  if (plane >= planes || ox >= f.ow) return;
  float along_x[kTaps], along_y[kTaps];
  read_taps(along_x, f, filter, static_cast<float>(f.gain));
  read_taps(along_y, f, filter, 1.0f);
  typename B::Thread thread{};
  const int64_t n = plane / f.c;
  body.channel(thread, n, plane - n * f.c);
  const float* corner = tile + (slot * rows + strip * R::kStripInput) * t.pitch + lane * (kStep + 1);
  const auto filtered = [&](int m) {
    float window[kWindow];
#pragma unroll
    for (int j = 0; j < kWindow; ++j) window[j] = corner[m * t.pitch + j + j / kStep];
    V v;
    if constexpr (UP == 1) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        v.v[j] = 0;
#pragma unroll
        for (int k = 0; k < kTaps; ++k) v.v[j] += along_x[k] * window[j * DOWN + k];
      }
    } else if (f.pad_left & 1) {  // the first tap that meets a pixel is 1 for even and 0 for odd columns
#pragma unroll
      for (int j = 0; j < VEC; ++j) v.v[j] = along_x[1 - j % 2] * window[j / 2] + along_x[3 - j % 2] * window[j / 2 + 1];
    } else {
#pragma unroll
      for (int j = 0; j < VEC; ++j) v.v[j] = along_x[j % 2] * window[(j + 1) / 2] + along_x[2 + j % 2] * window[(j + 1) / 2 + 1];
    }
    return v;
  };
  R::template walk<V>(along_y, filtered, [&](int j, V v) {
    if (oy + j < 0 || oy + j >= f.oh) return;
    const int64_t pixel = int64_t(oy + j) * f.ow + ox;
    body.pixel(thread, n, pixel);
    body.transform(thread, v);
    T* out = y + plane * f.oh * f.ow + pixel;
    if (vector_store) {
      store(out, v);
    } else {
#pragma unroll
      for (int i = 0; i < VEC; ++i)
        if (ox + i < f.ow) out[i] = static_cast<T>(v.v[i]);
    }
  });
}

/// channels_last. The tile is T [rows, columns, slots * VEC]; a thread has VEC channels of one column.
template <typename B, int UP, int DOWN>
__global__ void __launch_bounds__(256)
    fir_pixels(const Fir f, const FirTiling t, const B body, const typename B::T* x, const float* filter, typename B::T* y) {
  using T = typename B::T;
  using R = Resampling<UP, DOWN>;
  using V = typename B::Elements;
  constexpr int VEC = B::kVec;
  using P = Pack<T, VEC>;
  P* tile = reinterpret_cast<P*>(shared_memory);
  const int lanes = 1 << t.lanes_log2, strips = 1 << t.strips_log2, slots = 1 << t.slots_log2;
  const int rows = strips * R::kStripInput + R::kHalo, columns = t.pitch;
  const uint32_t chunks = static_cast<uint32_t>((f.c / VEC + slots - 1) / slots), chunk = blockIdx.x % chunks;
  uint32_t rest = blockIdx.x / chunks;
  const int ox0 = int(rest % t.tiles_x) * lanes;
  rest /= t.tiles_x;
  const int odd = UP == 2 ? f.pad_top & 1 : 0, oy0 = int(rest % t.tiles_y) * strips * R::kStrip - odd;
  const int64_t n = rest / t.tiles_y;
  const int iy0 = R::first(oy0, f.pad_top), ix0 = R::first(ox0, f.pad_left);
  const int slot = threadIdx.x & (slots - 1);
  const int64_t c = (int64_t(chunk) * slots + slot) * VEC;

  for (uint32_t i = threadIdx.x >> t.slots_log2; i < uint32_t(rows * columns); i += blockDim.x >> t.slots_log2) {
    const int row = i / uint32_t(columns), iy = iy0 + row, ix = ix0 + int(i) - row * columns;
    const bool inside = iy >= 0 && iy < f.h && ix >= 0 && ix < f.w && c < f.c;
    tile[(i << t.slots_log2) + slot] = inside ? load<VEC>(x + ((n * f.h + iy) * f.w + ix) * f.c + c) : P{};
  }
  __syncthreads();

  const int lane = (threadIdx.x >> t.slots_log2) & (lanes - 1), strip = threadIdx.x >> (t.slots_log2 + t.lanes_log2);
  const int ox = ox0 + lane, oy = oy0 + strip * R::kStrip;
  if (c >= f.c || ox >= f.ow) return;
  float along_x[kTaps], along_y[kTaps], met[R::kMet];
  read_taps(along_x, f, filter, static_cast<float>(f.gain));
  read_taps(along_y, f, filter, 1.0f);
#pragma unroll
  for (int k = 0; k < R::kMet; ++k) met[k] = UP == 2 && ((ox - f.pad_left) & 1) ? along_x[k * UP + UP - 1] : along_x[k * UP];
  typename B::Thread thread{};
  body.channel(thread, n, c);
  const P* corner = tile + (((strip * R::kStripInput * columns) + R::first(ox, f.pad_left) - ix0) << t.slots_log2) + slot;
  const auto filtered = [&](int m) {
    V v{};
#pragma unroll
    for (int k = 0; k < R::kMet; ++k) {
      const V pixel = widen(corner[(m * columns + k) << t.slots_log2]);
#pragma unroll
      for (int j = 0; j < VEC; ++j) v.v[j] += met[k] * pixel.v[j];
    }
    return v;
  };
  R::template walk<V>(along_y, filtered, [&](int j, V v) {
    if (oy + j < 0 || oy + j >= f.oh) return;
    const int64_t pixel = int64_t(oy + j) * f.ow + ox;
    body.pixel(thread, n, pixel);
    body.transform(thread, v);
    store(y + (n * f.oh * f.ow + pixel) * f.c + c, v);
  });
}

/// Any filter, factors and layout: one output (VEC channels of it) per thread, read through the cache; a block is in one row.
template <typename B>
__global__ void __launch_bounds__(kThreads, 4)
    fir_any(const Fir f, const B body, const typename B::T* __restrict__ x, const typename B::W* __restrict__ filter, typename B::T* y) {
  using W = typename B::W;
  constexpr int VEC = B::kVec;
  const uint32_t vectors = static_cast<uint32_t>(B::kLast ? f.c / VEC : 1), tiles = (f.ow * vectors + kThreads - 1) / kThreads;
  const uint32_t tile = blockIdx.x % tiles, line = blockIdx.x / tiles, at = tile * kThreads + threadIdx.x;  // a block works in one row
  if (at >= f.ow * vectors) return;
  const int oy = int(line % uint32_t(f.oh)), ox = int(at / vectors);
  const uint32_t map = line / uint32_t(f.oh);  // of a plane, or of a sample in channels_last
  const int64_t n = B::kLast ? map : map / uint32_t(f.c), c = B::kLast ? (at - ox * vectors) * VEC : map - n * f.c;
  const int64_t column_stride = B::kLast ? f.c : 1, row_stride = f.w * column_stride;
  const typename B::T* corner = x + map * f.h * row_stride + (B::kLast ? c : 0);

  const int kh = f.kh, kw = f.kw > 0 ? f.kw : f.kh, top = oy * f.down_y - f.pad_top, left = ox * f.down_x - f.pad_left;
  const int ty = ((-top) % f.up_y + f.up_y) % f.up_y, tx = ((-left) % f.up_x + f.up_x) % f.up_x;
  Values<W, VEC> sum{};
#pragma unroll 1
  for (int a = ty, iy = (top + ty) / f.up_y; a < kh; a += f.up_y, ++iy) {
    if (iy < 0 || iy >= f.h) continue;
    Values<W, VEC> row{};
    const int ka = f.flip ? a : kh - 1 - a;
#pragma unroll 1
    for (int b = tx, ix = (left + tx) / f.up_x; b < kw; b += f.up_x, ++ix) {
      if (ix < 0 || ix >= f.w) continue;
      const int kb = f.flip ? b : kw - 1 - b;
      const W tap = f.kw > 0 ? filter[ka * kw + kb] : filter[kb];
      const auto pixel = widen(load<VEC>(corner + iy * row_stride + ix * column_stride));
#pragma unroll
      for (int j = 0; j < VEC; ++j) row.v[j] += tap * pixel.v[j];
    }
    const W tap = f.kw > 0 ? W(1) : filter[ka];
#pragma unroll
    for (int j = 0; j < VEC; ++j) sum.v[j] += tap * row.v[j];
  }
#pragma unroll
  for (int j = 0; j < VEC; ++j) sum.v[j] *= static_cast<W>(f.gain);
  typename B::Thread thread{};
  body.channel(thread, n, c);
  body.pixel(thread, n, int64_t(oy) * f.ow + ox);
  body.transform(thread, sum);
  store(y + (int64_t(line) * f.ow * vectors + at) * VEC, sum);
}

constexpr size_t kSharedLimit = 48 * 1024;  // what every device gives a block unasked

inline int log2_at_least(int64_t wanted, int most) {
  int log2 = 0;
  while ((1 << log2) < wanted && log2 < most) ++log2;
  return log2;
}

template <int UP, int DOWN, typename B>
void run_fir_planes(
    const Launcher& launch, const Fir& f, const B& body, const typename B::T* x, const float* filter, typename B::T* y, bool vector_store) {
  using R = Resampling<UP, DOWN>;
  constexpr int kStep = B::kVec * DOWN / UP;
  const int height = f.oh + (UP == 2 ? f.pad_top & 1 : 0);
  FirTiling t;
  t.lanes_log2 = log2_at_least(ceil_div(f.ow, B::kVec), B::kVec == 8 ? 4 : 5);
  t.strips_log2 = log2_at_least(ceil_div(height, R::kStrip), 7 - t.lanes_log2);
  t.slots_log2 = log2_at_least(f.n * f.c, 7 - t.lanes_log2 - t.strips_log2);
  const int columns = (kStep << t.lanes_log2) + R::kHalo;
  t.pitch = columns + (columns - 1) / kStep;
  const auto bytes = [&] { return (size_t((R::kStripInput << t.strips_log2) + R::kHalo) << t.slots_log2) * t.pitch * sizeof(float); };
  while (bytes() > kSharedLimit) --(t.slots_log2 > 0 ? t.slots_log2 : t.strips_log2);
  t.tiles_x = static_cast<uint32_t>(ceil_div(f.ow, B::kVec << t.lanes_log2));
  t.tiles_y = static_cast<uint32_t>(ceil_div(height, R::kStrip << t.strips_log2));
  const int64_t blocks = ceil_div(f.n * f.c, int64_t(1) << t.slots_log2) * t.tiles_x * t.tiles_y;
  launch(fir_planes<B, UP, DOWN>, blocks, t.threads(), bytes(), f, t, body, x, filter, y, vector_store);
}

template <int UP, int DOWN, typename B>
void run_fir_pixels(const Launcher& launch, const Fir& f, const B& body, const typename B::T* x, const float* filter, typename B::T* y) {
  using R = Resampling<UP, DOWN>;
  const int height = f.oh + (UP == 2 ? f.pad_top & 1 : 0);
  FirTiling t;
  t.slots_log2 = log2_at_least(f.c / B::kVec, 2);
  t.lanes_log2 = log2_at_least(f.ow, 4);
  t.strips_log2 = log2_at_least(ceil_div(height, R::kStrip), 8 - t.slots_log2 - t.lanes_log2);
  const auto columns = [&] { return ((DOWN << t.lanes_log2) + UP - 1) / UP + R::kHalo; };
  const auto bytes = [&] { return size_t((R::kStripInput << t.strips_log2) + R::kHalo) * columns() * 16 << t.slots_log2; };
  while (bytes() > kSharedLimit) --(t.strips_log2 > 1 ? t.strips_log2 : t.lanes_log2);
  t.pitch = columns();
  t.tiles_x = static_cast<uint32_t>(ceil_div(f.ow, int64_t(1) << t.lanes_log2));
  t.tiles_y = static_cast<uint32_t>(ceil_div(height, R::kStrip << t.strips_log2));
  const int64_t chunks = ceil_div(f.c / B::kVec, int64_t(1) << t.slots_log2);
  launch(fir_pixels<B, UP, DOWN>, f.n * chunks * t.tiles_x * t.tiles_y, t.threads(), bytes(), f, t, body, x, filter, y);
}

/// Filters x into y; `make(width, last)` is the body whose `transform` the result goes through, parameters_aligned about its pointers.
template <typename T, typename F>
void run_fir(
    const Launcher& launch, const Fir& f, const T* x, const acc_t<T>* filter, T* y, bool last, bool parameters_aligned, const F& make) {
  if (f.n * f.c * f.oh * f.ow == 0) return;
  constexpr int VEC = kVector<T>;
  const bool vectors = VEC > 1 && parameters_aligned && aligned({y}) && (last ? f.c % VEC == 0 && aligned({x}) : f.ow % VEC == 0);
  if constexpr (VEC > 1) {
    const bool square = f.kw == 0 && f.kh <= kTaps && f.up_y == f.up_x && f.down_y == f.down_x && f.h > 0 && f.w > 0;
    const auto fast = [&](auto up, auto down) {
      using Factors = std::integral_constant<int, VEC>;
      if (last) run_fir_pixels<up.value, down.value>(launch, f, make(Factors(), std::true_type()), x, filter, y);
      else run_fir_planes<up.value, down.value>(launch, f, make(Factors(), std::false_type()), x, filter, y, vectors);
    };
    using Body = decltype(make(std::integral_constant<int, VEC>(), std::false_type()));
    constexpr bool kResamples = requires { Body::kResamples; };
    using One = std::integral_constant<int, 1>;
    using Two = std::integral_constant<int, 2>;
    // NCHW results of any width are stored, element by element where need be; an epilogue's noise is read as vectors only.
    if (square && (vectors || (!last && kResamples))) {
      if (f.up_x == 1 && f.down_x == 1) return fast(One(), One());
      if constexpr (kResamples) {
        if (f.up_x == 2 && f.down_x == 1) return fast(Two(), One());
        if (f.up_x == 1 && f.down_x == 2) return fast(One(), Two());
      }
    }
  }
  const auto any = [&](auto vec, auto is_last) {
    const int64_t lines = (is_last.value ? f.n : f.n * f.c) * f.oh, vectors = is_last.value ? f.c / vec.value : 1;
    const auto body = make(vec, is_last);
    launch(fir_any<std::decay_t<decltype(body)>>, lines * ceil_div(f.ow * vectors, kThreads), kThreads, 0, f, body, x, filter, y);
  };
  if (!last) any(std::integral_constant<int, 1>(), std::false_type());
  else if (vectors) any(std::integral_constant<int, VEC>(), std::true_type());
  else any(std::integral_constant<int, 1>(), std::true_type());
}

}  // namespace facegan
