// upfirdn2d: zero-insert, pad, filter, decimate (fir.cuh). Its gradient is itself.
#include "cuda/fir.cuh"

namespace facegan {
namespace {}  // namespace

namespace launchers {

void upfirdn2d(
    const Tensor& x, const Tensor& f, const Tensor& y, int64_t n, int64_t c, int64_t h, int64_t w, int64_t oh, int64_t ow,
    bool channels_last, int64_t kh, int64_t kw, int64_t up_y, int64_t up_x, int64_t down_y, int64_t down_x, int64_t pad_top,
    int64_t pad_left, bool flip_filter, double gain) {
  const Launcher launch("upfirdn2d", x);
  const Fir fir{n,         c,         int(h),      int(w),      int(oh),      int(ow),       int(kh),     int(kw),
                int(up_y), int(up_x), int(down_y), int(down_x), int(pad_top), int(pad_left), flip_filter, gain};
  with_dtype("upfirdn2d", x, [&](auto t) {
    using T = decltype(t);
    run_fir<T>(launch, fir, input<T>(x), input<acc_t<T>>(f), output<T>(y), channels_last, true, [](auto vec, auto last) {
      return Plain<T, vec.value, last.value>();
    });
  });
}

}  // namespace launchers
}  // namespace facegan
