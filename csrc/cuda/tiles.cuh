// One skeleton for every pass over maps: elementwise work, with sums over pixels (per channel) and over channels (per pixel).
//
// A map is [n, rows, columns] in memory with contiguous columns: rows are channels and columns pixels, or, channels_last (LAST),
// the other way round. A thread stays in its columns (VEC of them, one 16-byte access) and walks down the rows, so that what
// belongs to a column is read once and nothing is divided per element. Sums along columns stay in registers until the block is
// done; sums along a row are reduced by shuffles. Both leave partial sums that `sum_partials` adds in a fixed order: no atomics,
// the same bits in every run.
#pragma once

#include "cuda/common.cuh"

namespace facegan {

constexpr int kThreads = 256;

extern __shared__ __align__(16) unsigned char shared_memory[];

struct Tiling {
  uint32_t column_tiles, row_tiles;
  int lanes_log2;  // threads along a row
  int steps;       // rows of one thread
  int64_t n, rows, columns, total;

  int lanes() const { return 1 << lanes_log2; }
  int64_t blocks() const { return n * row_tiles * column_tiles; }
  /// Number of partial sums of each row and of each column.
  int64_t row_partials() const { return int64_t(column_tiles) * (lanes() > 32 ? lanes() / 32 : 1); }
  int64_t column_partials() const { return row_tiles; }
};

/// What a body of the skeleton declares. A body is a struct of pointers and numbers with
/// `channel(thread, n, c)`, `pixel(thread, n, p)`: reads into `Thread` what belongs to channel c or pixel p (VEC of them or one);
/// `load(offset)`: the elements of the maps; `apply(thread, loaded, offset, channel_sums, pixel_sums)`: the work.
template <typename T_, int VEC, bool LAST, int CHANNEL_SUMS = 0, int PIXEL_SUMS = 0>
struct Body {
  using T = T_;
  using W = acc_t<T>;
  using Elements = Values<W, VEC>;
  using Channel = Values<W, LAST ? VEC : 1>;
  using Pixel = Values<W, LAST ? 1 : VEC>;
  static constexpr int kVec = VEC;
  static constexpr bool kLast = LAST;
  static constexpr int kRowSums = LAST ? PIXEL_SUMS : CHANNEL_SUMS;
  static constexpr int kColumnSums = LAST ? CHANNEL_SUMS : PIXEL_SUMS;
};

/// Adds up `values` of the lanes that share a column, leaving the block's sum in partial[0 .. lanes * VEC).
template <typename W, int VEC>
__device__ __forceinline__ void reduce_columns(Values<W, VEC>& values, int lanes_log2, W* partial, int64_t columns_left) {
  W* shared = reinterpret_cast<W*>(shared_memory);
  const int lanes = 1 << lanes_log2, warp = threadIdx.x / 32;
  for (int stride = 16; stride >= lanes; stride /= 2) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) values.v[j] += __shfl_xor_sync(0xffffffffu, values.v[j], stride);
  }
  const int row = lanes <= 32 ? warp : threadIdx.x >> lanes_log2, rows = lanes <= 32 ? kThreads / 32 : kThreads >> lanes_log2;
  const int width = lanes * VEC, lane = threadIdx.x & (lanes - 1);
  if (int(threadIdx.x & 31) < lanes) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) shared[row * width + lane * VEC + j] = values.v[j];
  }
  __syncthreads();
  for (int column = threadIdx.x; column < width && column < columns_left; column += kThreads) {
    W sum = 0;
    for (int r = 0; r < rows; ++r) sum += shared[r * width + column];
    partial[column] = sum;
  }
  __syncthreads();
}

template <typename B>
__global__ void __launch_bounds__(kThreads)
    tile_kernel(const Tiling t, const B body, typename B::W* row_partial, typename B::W* column_partial) {
  using W = typename B::W;
  constexpr int kRows = B::kRowSums, kColumns = B::kColumnSums;
  const int lanes = 1 << t.lanes_log2, lane = threadIdx.x & (lanes - 1), groups = kThreads >> t.lanes_log2;
  const uint32_t column_tile = blockIdx.x % t.column_tiles, rest = blockIdx.x / t.column_tiles;
  const uint32_t row_tile = rest % t.row_tiles;
  const int64_t n = rest / t.row_tiles, x = (int64_t(column_tile) * lanes + lane) * B::kVec;
  int64_t y = int64_t(row_tile) * t.steps * groups + (threadIdx.x >> t.lanes_log2);

  typename B::Thread thread{};
  if (x < t.columns) {
    if constexpr (B::kLast) body.channel(thread, n, x);
    else body.pixel(thread, n, x);
  }
  Values<W, B::kVec> column_sums[kColumns > 0 ? kColumns : 1]{};
#pragma unroll 1
  for (int step = 0; step < t.steps; ++step, y += groups) {  // uniform: all lanes take part in the shuffles
    const int64_t offset = (n * t.rows + y) * t.columns + x;
    Values<W, 1> row_sums[kRows > 0 ? kRows : 1]{};
    if (x < t.columns && y < t.rows && offset < t.total) {
      const auto loaded = body.load(offset);
      if constexpr (B::kLast) {
        body.pixel(thread, n, y);
        body.apply(thread, loaded, offset, column_sums, row_sums);
      } else {
        body.channel(thread, n, y);
        body.apply(thread, loaded, offset, row_sums, column_sums);
      }
    }
    if constexpr (kRows > 0) {
      const int64_t segment = lanes > 32 ? int64_t(column_tile) * (lanes / 32) + lane / 32 : column_tile;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        W sum = row_sums[i].v[0];
        for (int stride = (lanes < 32 ? lanes : 32) / 2; stride > 0; stride /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, stride);
        if ((lane & 31) == 0 && y < t.rows) row_partial[((segment * kRows + i) * t.n + n) * t.rows + y] = sum;
      }
    }
  }
  if constexpr (kColumns > 0) {
    const int64_t left = int64_t(column_tile) * lanes * B::kVec;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      W* partial = column_partial + ((int64_t(row_tile) * kColumns + i) * t.n + n) * t.columns + left;
      reduce_columns(column_sums[i], t.lanes_log2, partial, t.columns - left);
    }
  }
}

/// out[m] = sum_k partial[k, m] in a fixed order; a block adds 32 columns with 16 rows of threads.
template <typename W, typename T>
__global__ void __launch_bounds__(512) sum_partials(const W* __restrict__ partial, T* __restrict__ out, int64_t count, int64_t width) {
  W(*shared)[33] = reinterpret_cast<W(*)[33]>(shared_memory);
  const int lane = threadIdx.x & 31, row = threadIdx.x / 32;
  const int64_t column = int64_t(blockIdx.x) * 32 + lane;
  W sum = 0;
  if (column < width) {
#pragma unroll 4
    for (int64_t k = row; k < count; k += 16) sum += partial[k * width + column];
  }
  shared[row][lane] = sum;
  __syncthreads();
  if (row == 0 && column < width) {
    for (int r = 1; r < 16; ++r) sum += shared[r][lane];
    out[column] = static_cast<T>(sum);
  }
}

/// Where a sum of partial sums goes: `width` values of type W (or T when narrow). Where `out` is null it is not wanted, or has no
/// elements, and there is nothing to write.
struct Total {
  void* out = nullptr;
  int64_t width = 0;
  bool narrow = false;
};

/// How [n, rows, columns] is cut into blocks: as many lanes as the columns need, and a few waves of blocks.
inline Tiling tiling(int64_t n, int64_t rows, int64_t columns, int64_t total, int vec, int multiprocessors) {
  Tiling t{};
  const int64_t wanted = ceil_div(columns, vec);
  while (t.lanes() < wanted && (t.lanes() < 32 || (t.lanes() < kThreads && kThreads / t.lanes() > rows))) ++t.lanes_log2;
  const int64_t groups = kThreads >> t.lanes_log2;
  t.column_tiles = static_cast<uint32_t>(ceil_div(wanted, t.lanes()));
  const int64_t blocks = n * ceil_div(rows, groups) * t.column_tiles, steps = blocks / (int64_t(multiprocessors) * 16);
  t.steps = static_cast<int>(steps < 1 ? 1 : steps > 64 ? 64 : steps);
  t.row_tiles = static_cast<uint32_t>(ceil_div(rows, groups * t.steps));
  t.n = n, t.rows = rows, t.columns = columns, t.total = total;
  return t;
}

/// One total of a map with pixels from its partial sums: decides where the partial sums go, and adds them up after the pass.
template <typename T>
class Reduction {
 public:
  using W = acc_t<T>;
  Reduction(const Launcher& launch, const Total& total, int64_t partials, int64_t values) : launch_(launch), total_(total) {
    if (total.out == nullptr) return;
    count_ = partials * values / total.width;  // a total over n has fewer values than the maps have sums
    direct_ = count_ == 1 && (!total.narrow || std::is_same_v<T, W>);
    if (!direct_) scratch_ = launch.scratch<W>(count_ * total.width);
  }

  W* partial() const { return direct_ ? static_cast<W*>(total_.out) : scratch_.has_value() ? output<W>(*scratch_) : nullptr; }

  void finish() const {
    if (total_.out == nullptr || direct_) return;
    const auto go = [&](auto* kernel, auto* out) {
      launch_(kernel, ceil_div(total_.width, 32), 512, 16 * 33 * sizeof(W), static_cast<const W*>(partial()), out, count_, total_.width);
    };
    if (total_.narrow) go(sum_partials<W, T>, static_cast<T*>(total_.out));
    else go(sum_partials<W, W>, static_cast<W*>(total_.out));
  }

 private:
  const Launcher& launch_;
  Total total_;
  int64_t count_ = 0;
  bool direct_ = false;
  std::optional<Tensor> scratch_;
};

template <typename T>
void write_zeros(const Launcher& launch, const Total& total) {
  if (total.narrow) launch.zero(static_cast<T*>(total.out), total.width);
  else launch.zero(static_cast<acc_t<T>*>(total.out), total.width);
}

/// Runs a body over [n, c, hw] (or [n, hw, c]); its sums over pixels go to `channels`, those over channels to `pixels`.
template <typename B>
void run(const Launcher& launch, const B& body, int64_t n, int64_t c, int64_t hw, Total channels = {}, Total pixels = {}) {
  using T = typename B::T;
  if (n * c * hw == 0) {
    write_zeros<T>(launch, channels);
    write_zeros<T>(launch, pixels);
    return;
  }
  const int64_t rows = B::kLast ? hw : c, columns = B::kLast ? c : hw;
  const Tiling t = tiling(n, rows, columns, n * rows * columns, B::kVec, launch.multiprocessors());
  const Reduction<T> row(launch, B::kLast ? pixels : channels, t.row_partials(), B::kRowSums * n * rows);
  const Reduction<T> column(launch, B::kLast ? channels : pixels, t.column_partials(), B::kColumnSums * n * columns);
  const size_t shared_bytes = B::kColumnSums > 0 ? size_t(kThreads) * B::kVec * sizeof(typename B::W) : 0;
  launch(tile_kernel<B>, t.blocks(), kThreads, shared_bytes, t, body, row.partial(), column.partial());
  row.finish();
  column.finish();
}

/// Runs a body without sums and without channels over `count` elements: rows of 32 accesses.
template <typename B>
void run_flat(const Launcher& launch, const B& body, int64_t count) {
  if (count == 0) return;
  const Tiling t = tiling(1, ceil_div(count, 32 * B::kVec), 32 * B::kVec, count, B::kVec, launch.multiprocessors());
  launch(tile_kernel<B>, t.blocks(), kThreads, 0, t, body, static_cast<typename B::W*>(nullptr), static_cast<typename B::W*>(nullptr));
}

}  // namespace facegan
