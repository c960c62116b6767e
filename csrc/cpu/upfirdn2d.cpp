// upfirdn2d: zero-insert, pad, filter, decimate. Its gradient is itself.

#include "fir.h"

namespace facegan::cpu {
namespace {

/// Narrows a row that was computed in W; where T is W it lies in y already.
template <typename T, typename W>
FACEGAN_INLINE inline void narrow(const W* FACEGAN_RESTRICT row, T* FACEGAN_RESTRICT y, int64_t size) {
  if constexpr (!std::is_same_v<T, W>) {
    FACEGAN_SIMD
    for (int64_t i = 0; i < size; ++i) y[i] = T(row[i]);
  }
}

}  // namespace
}  // namespace facegan::cpu

namespace facegan::launchers {

using namespace cpu;

void upfirdn2d(
    const Tensor& x, const Tensor& f, const Tensor& y, int64_t n, int64_t c, int64_t h, int64_t w, int64_t oh, int64_t ow,
    bool channels_last, int64_t kh, int64_t kw, int64_t up_y, int64_t up_x, int64_t down_y, int64_t down_x, int64_t pad_top,
    int64_t pad_left, bool flip_filter, double gain) {
  if (y.numel() == 0) return;
  large_pages(y);
  with_dtype("upfirdn2d", x, [&](auto zero) {
    using T = decltype(zero);
    using W = Acc<T>;
    const Axis rows(h, oh, up_y, down_y, pad_top, kh), columns(w, ow, up_x, down_x, pad_left, kw == 0 ? kh : kw);
    const Fir<W> fir(rows, columns, read<W>(f), kh, kw, flip_filter, gain);
    const int64_t size = channels_last ? ow * c : ow;
    fir_maps(fir, read<T>(x), written<T>(y), n, c, channels_last, [=](int64_t, int64_t, const W* row, T* out) FACEGAN_INLINE {
      narrow(row, out, size);
    });
  });
}

}  // namespace facegan::launchers
