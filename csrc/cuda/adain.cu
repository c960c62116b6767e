// AdaIN and its affine form: y = x + alpha m (ratio x + shift - ratio mean - x) with ratio = scale / sigma, where (scale, shift)
// are a style map's (sigma, mean), or given (then alpha is 1 and there is no mask). With dt = alpha m dy the gradient is
// dx = dy + (ratio - 1) dt - w ratio (G0 + xhat G1), G0 = sum dt, G1 = sum dt xhat, w a pixel's share of its plane's weight;
// d_shift = G0, d_scale = G1, hence d_style = w (G0 + shat G1).
//
// A plane that fits in registers is read once and written once by one block; others are streamed twice.
#include "cuda/statistics.cuh"

namespace facegan {
namespace {

/// Where (scale, shift) come from. A pointer does not say it: that of a style map without pixels is null too.
enum class Form { map, affine };

/// Everything an operator of the family is given; a style map, or scale and shift [n c].
template <typename T>
struct Problem {
  using W = acc_t<T>;
  const T *dy, *x, *style;
  const W *scale, *shift, *mask;
  T *y, *d_style;  // y: the result, or dx
  W *d_scale, *d_shift;
  int64_t n, c, hw, style_hw;
  W alpha, eps;
  Form form;
};

// --- In registers -------------------------------------------------------------------------------------------------------

/// The style's mean and sigma: of the map, held for as long as that takes, or as given.
template <typename T, int VEC, bool LAST, int HELD>
__device__ __forceinline__ void style_statistics(
    const Member<T, VEC, LAST>& member, const Problem<T>& p, acc_t<T> weight, typename Member<T, VEC, LAST>::Channel& mean,
    typename Member<T, VEC, LAST>::Channel& sigma) {
  using W = acc_t<T>;
  if (p.style != nullptr) {  // kernels run only where there are pixels, and there a map has a place; `form` would cost registers
    const Held<T, VEC, LAST, HELD> style(member, p.style, p.style_hw, p.c);
    const W share = p.mask == nullptr ? W(1) / static_cast<W>(p.style_hw) : weight;
    style.statistics(member, p.style_hw, p.mask, share, p.eps, mean, sigma);
  } else if (member.live) {
    constexpr int N = LAST ? VEC : 1;
    mean = read<N>(p.shift, member.n * p.c + member.c, W(0));
    sigma = read<N>(p.scale, member.n * p.c + member.c, W(1));
  }
}

template <typename T, int VEC, bool LAST>
__global__ void __launch_bounds__(kTeamThreads) forward_held(const Teams t, const Problem<T> p) {
  using W = acc_t<T>;
  constexpr int HELD = 8;
  const Member<T, VEC, LAST> member(t);
  const W weight = inverse_mass<T, VEC, LAST, HELD>(member, p.mask);
  typename Member<T, VEC, LAST>::Channel mean{}, sigma{}, shift{}, scale{};
  style_statistics<T, VEC, LAST, HELD>(member, p, weight, shift, scale);
  const Held<T, VEC, LAST, HELD> x(member, p.x, p.hw, p.c);
  x.statistics(member, p.hw, p.mask, weight, p.eps, mean, sigma);
#pragma unroll
  for (int j = 0; j < (LAST ? VEC : 1); ++j) {
    scale.v[j] /= sigma.v[j];
    shift.v[j] -= scale.v[j] * mean.v[j];
  }
  x.each(member, p.hw, [&](int k, auto v) {
    const auto m = read<LAST ? 1 : VEC>(p.mask, member.n * p.hw + member.pixel(k), W(1));
#pragma unroll
    for (int j = 0; j < VEC; ++j) v.v[j] += p.alpha * m.at(j) * ((scale.at(j) - 1) * v.v[j] + shift.at(j));
    store(p.y + member.offset(k, p.hw, p.c), v);
  });
}

template <typename T, int VEC, bool LAST>
__global__ void __launch_bounds__(kTeamThreads) backward_held(const Teams t, const Problem<T> p) {
  using W = acc_t<T>;
  using Channel = typename Member<T, VEC, LAST>::Channel;
  constexpr int HELD = 4, N = LAST ? VEC : 1;
  const Member<T, VEC, LAST> member(t);
  const W weight = inverse_mass<T, VEC, LAST, HELD>(member, p.mask);
  Channel mean{}, sigma{}, style_mean{}, scale{}, g0{}, g1{};
  style_statistics<T, VEC, LAST, HELD>(member, p, weight, style_mean, scale);
  const auto mask = [&](int k) { return read<LAST ? 1 : VEC>(p.mask, member.n * p.hw + member.pixel(k), W(1)); };
  {
    const Held<T, VEC, LAST, HELD> x(member, p.x, p.hw, p.c), dy(member, p.dy, p.hw, p.c);
    x.statistics(member, p.hw, p.mask, weight, p.eps, mean, sigma);
    dy.each(member, p.hw, [&](int k, const auto& g) {
      const auto m = mask(k);
      const auto v = widen(x.packs[k]);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const W dt = p.alpha * m.at(j) * g.v[j];
        g0.at(j) += dt;
        g1.at(j) += dt * (v.v[j] - mean.at(j)) / sigma.at(j);
      }
    });
    g0 = member.sum(g0);
    g1 = member.sum(g1);
    dy.each(member, p.hw, [&](int k, auto g) {
      const auto m = mask(k);
      const auto v = widen(x.packs[k]);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const W ratio = scale.at(j) / sigma.at(j), normal = (v.v[j] - mean.at(j)) / sigma.at(j);
        g.v[j] += (ratio - 1) * p.alpha * m.at(j) * g.v[j] - m.at(j) * weight * ratio * (g0.at(j) + normal * g1.at(j));
      }
      store(p.y + member.offset(k, p.hw, p.c), g);
    });
  }
  if (p.style == nullptr) {
    if (!member.live || member.first != 0) return;
#pragma unroll
    for (int j = 0; j < N; ++j) p.d_shift[member.n * p.c + member.c + j] = g0.v[j], p.d_scale[member.n * p.c + member.c + j] = g1.v[j];
    return;
  }
  const W share = p.mask == nullptr ? W(1) / static_cast<W>(p.style_hw) : weight;
#pragma unroll 1
  for (int k = 0; k < HELD; ++k) {  // the second reading of the style comes from the cache
    if (!member.has(k, p.style_hw)) continue;
    const int64_t offset = member.offset(k, p.style_hw, p.c);
    auto v = widen(load<VEC>(p.style + offset));
    const auto m = mask(k);
#pragma unroll
    for (int j = 0; j < VEC; ++j) v.v[j] = m.at(j) * share * (g0.at(j) + (v.v[j] - style_mean.at(j)) / scale.at(j) * g1.at(j));
    store(p.d_style + offset, v);
  }
}

// --- Streamed -----------------------------------------------------------------------------------------------------------

template <typename T, int VEC, bool LAST>
struct Apply : Body<T, VEC, LAST> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  Problem<T> p;
  Statistics<W> x, style;

  Apply(const Problem<T>& p_, const Statistics<W>& x_, const Statistics<W>& style_) : p(p_), x(x_), style(style_) {}

  struct Thread {
    typename B::Channel a, b;
    typename B::Pixel m;
  };
  __device__ void channel(Thread& thread, int64_t n, int64_t at) const {
    constexpr int N = LAST ? VEC : 1;
    const int64_t i = n * p.c + at;
    const auto mean = read<N>(x.mean, i, W(0)), sigma = read<N>(x.sigma, i, W(1));
    thread.a = read<N>(style.sigma, i, W(1)), thread.b = read<N>(style.mean, i, W(0));
#pragma unroll
    for (int j = 0; j < N; ++j) {
      thread.a.v[j] /= sigma.v[j];
      thread.b.v[j] -= thread.a.v[j] * mean.v[j];
    }
  }
  __device__ void pixel(Thread& thread, int64_t n, int64_t at) const { thread.m = read<LAST ? 1 : VEC>(p.mask, n * p.hw + at, W(1)); }
  __device__ auto load(int64_t offset) const { return facegan::load<VEC>(p.x + offset); }
  template <typename C, typename P>
  __device__ void apply(const Thread& thread, const Pack<T, VEC>& loaded, int64_t offset, C&, P&) const {
    auto v = widen(loaded);
#pragma unroll
    for (int j = 0; j < VEC; ++j) v.v[j] += p.alpha * thread.m.at(j) * ((thread.a.at(j) - 1) * v.v[j] + thread.b.at(j));
    store(p.y + offset, v);
  }
};

template <typename T, int VEC>
struct Pair {
  Pack<T, VEC> dy, x;
};

/// What the bodies of the gradient share: xhat = (x - mean) / sigma.
template <typename T, int VEC, bool LAST, int SUMS>
struct Normalised : Body<T, VEC, LAST, SUMS> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  Problem<T> p;
  Statistics<W> x;

  Normalised(const Problem<T>& p_, const Statistics<W>& x_) : p(p_), x(x_) {}

  struct Thread {
    typename B::Channel mean, inverse, ratio, share, g0, g1;
    typename B::Pixel m;
  };
  __device__ void channel(Thread& thread, int64_t n, int64_t at) const {
    constexpr int N = LAST ? VEC : 1;
    thread.mean = read<N>(x.mean, n * p.c + at, W(0));
    thread.inverse = read<N>(x.sigma, n * p.c + at, W(1));
#pragma unroll
    for (int j = 0; j < N; ++j) thread.inverse.v[j] = 1 / thread.inverse.v[j];
  }
  __device__ void pixel(Thread& thread, int64_t n, int64_t at) const { thread.m = read<LAST ? 1 : VEC>(p.mask, n * p.hw + at, W(1)); }
};

/// G0 = sum dt, G1 = sum dt xhat.
template <typename T, int VEC, bool LAST>
struct Sums : Normalised<T, VEC, LAST, 2> {
  using Base = Normalised<T, VEC, LAST, 2>;
  using Base::Base;
  using Base::p;
  using W = acc_t<T>;

  __device__ Pair<T, VEC> load(int64_t offset) const { return {facegan::load<VEC>(p.dy + offset), facegan::load<VEC>(p.x + offset)}; }
  template <typename C, typename P>
  __device__ void apply(const typename Base::Thread& thread, const Pair<T, VEC>& loaded, int64_t, C& sums, P&) const {
    const auto g = widen(loaded.dy), v = widen(loaded.x);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const W dt = p.alpha * thread.m.at(j) * g.v[j];
      sums[0].at(j) += dt;
      sums[1].at(j) += dt * (v.v[j] - thread.mean.at(j)) * thread.inverse.at(j);
    }
  }
};

/// dx from dy, x and the sums; STYLE: d_style from the style and the sums.
template <typename T, int VEC, bool LAST, bool STYLE>
struct Gradient : Normalised<T, VEC, LAST, 0> {
  using Base = Normalised<T, VEC, LAST, 0>;
  using Base::p;
  using W = acc_t<T>;
  const W *g, *scale;  // g: [2, n c]
  int64_t hw;

  Gradient(const Problem<T>& p_, const Statistics<W>& x_, const W* g_, const W* scale_)
      : Base(p_, x_), g(g_), scale(scale_), hw(STYLE ? p_.style_hw : p_.hw) {}

  __device__ void channel(typename Base::Thread& thread, int64_t n, int64_t at) const {
    constexpr int N = LAST ? VEC : 1;
    Base::channel(thread, n, at);
    const int64_t i = n * p.c + at;
    thread.g0 = read<N>(g, i, W(0));
    thread.g1 = read<N>(g, i + p.n * p.c, W(0));
    thread.ratio = read<N>(scale, i, W(1));
    thread.share = read<N>(this->x.mass, i, W(1));
#pragma unroll
    for (int j = 0; j < N; ++j) thread.ratio.v[j] *= thread.inverse.v[j], thread.share.v[j] = 1 / thread.share.v[j];
  }
  __device__ void pixel(typename Base::Thread& thread, int64_t n, int64_t at) const {
    thread.m = read<LAST ? 1 : VEC>(p.mask, n * hw + at, W(1));
  }
  __device__ Pair<T, VEC> load(int64_t offset) const {
    if constexpr (STYLE) return {{}, facegan::load<VEC>(p.style + offset)};
    else return {facegan::load<VEC>(p.dy + offset), facegan::load<VEC>(p.x + offset)};
  }
  template <typename C, typename P>
  __device__ void apply(const typename Base::Thread& thread, const Pair<T, VEC>& loaded, int64_t offset, C&, P&) const {
    auto v = widen(loaded.x);
    const auto dy = widen(loaded.dy);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const W m = thread.m.at(j), normal = (v.v[j] - thread.mean.at(j)) * thread.inverse.at(j);
      v.v[j] = m * thread.share.at(j) * (thread.g0.at(j) + normal * thread.g1.at(j));
      if constexpr (!STYLE) v.v[j] = dy.v[j] + (thread.ratio.at(j) - 1) * p.alpha * m * dy.v[j] - thread.ratio.at(j) * v.v[j];
    }
    store((STYLE ? p.d_style : p.y) + offset, v);
  }
};

template <typename W>
__global__ void __launch_bounds__(128) split_kernel(const W* g, W* first, W* second, int64_t planes) {
  const int64_t i = int64_t(blockIdx.x) * 128 + threadIdx.x;
  if (i < planes) first[i] = g[i], second[i] = g[planes + i];
}

// --- Launches -----------------------------------------------------------------------------------------------------------

/// Pixels of the larger map; the affine form has one.
template <typename T>
int64_t largest_plane(const Problem<T>& p) {
  return p.form == Form::affine || p.hw > p.style_hw ? p.hw : p.style_hw;
}

template <int VEC, bool LAST, typename T>
void forward(const Launcher& launch, const Problem<T>& p) {
  using W = acc_t<T>;
  if constexpr (!std::is_same_v<T, double>) {
    if (const auto t = teams(p.n, p.c, p.hw, largest_plane(p), VEC, LAST, 8)) {
      return launch(forward_held<T, VEC, LAST>, t->blocks(VEC, LAST), t->threads(), kTeamShared<W>, *t, p);
    }
  }
  const Tensor memory = launch.scratch<W>(14 * p.n * p.c);
  W* const at = output<W>(memory);
  const auto x = streamed_statistics<T, VEC, LAST>(launch, at, p.x, p.mask, p.n, p.c, p.hw, p.eps);
  Statistics<W> style{p.shift, p.scale, nullptr};
  if (p.form == Form::map)
    style = streamed_statistics<T, VEC, LAST>(launch, at + 7 * p.n * p.c, p.style, p.mask, p.n, p.c, p.style_hw, p.eps);
  run(launch, Apply<T, VEC, LAST>(p, x, style), p.n, p.c, p.hw);
}

template <int VEC, bool LAST, typename T>
void backward(const Launcher& launch, const Problem<T>& p) {
  using W = acc_t<T>;
  const int64_t planes = p.n * p.c;
  if constexpr (!std::is_same_v<T, double>) {
    if (const auto t = teams(p.n, p.c, p.hw, largest_plane(p), VEC, LAST, 4)) {
      return launch(backward_held<T, VEC, LAST>, t->blocks(VEC, LAST), t->threads(), kTeamShared<W>, *t, p);
    }
  }
  const Tensor memory = launch.scratch<W>(16 * planes);
  W *const at = output<W>(memory), *const g = at + 14 * planes;
  const auto x = streamed_statistics<T, VEC, LAST>(launch, at, p.x, p.mask, p.n, p.c, p.hw, p.eps);
  run(launch, Sums<T, VEC, LAST>(p, x), p.n, p.c, p.hw, Total{g, 2 * planes});
  if (p.form == Form::affine) {
    run(launch, Gradient<T, VEC, LAST, false>(p, x, g, p.scale), p.n, p.c, p.hw);
    return launch(split_kernel<W>, ceil_div(planes, 128), 128, 0, static_cast<const W*>(g), p.d_shift, p.d_scale, planes);
  }
  const auto style = streamed_statistics<T, VEC, LAST>(launch, at + 7 * planes, p.style, p.mask, p.n, p.c, p.style_hw, p.eps);
  run(launch, Gradient<T, VEC, LAST, false>(p, x, g, style.sigma), p.n, p.c, p.hw);
  run(launch, Gradient<T, VEC, LAST, true>(p, style, g, nullptr), p.n, p.c, p.style_hw);
}

/// The gradient of a result without pixels: no kernel runs, so that none divides by their number.
template <typename T>
void write_zeros(const Launcher& launch, const Problem<T>& p) {
  if (p.form == Form::map) return launch.zero(p.d_style, p.n * p.c * p.style_hw);
  launch.zero(p.d_scale, p.n * p.c);
  launch.zero(p.d_shift, p.n * p.c);
}

/// Chooses the width of the accesses for a problem and runs `forward` or, for its GRADIENT, `backward`. A content with pixels has a
/// style with pixels: callers see to it, as there are no statistics of none.
template <bool GRADIENT, typename T>
void solve(const Launcher& launch, const Problem<T>& p, bool last) {
  if (p.n * p.c * p.hw == 0) {
    if constexpr (GRADIENT) write_zeros(launch, p);
    return;
  }
  const bool divides = last ? p.c % kVector<T> == 0 : p.hw % kVector<T> == 0 && p.style_hw % kVector<T> == 0;
  const bool vector = divides && aligned({p.dy, p.x, p.style, p.scale, p.shift, p.mask, p.y, p.d_style});
  with_layout<T>(vector, last, [&](auto vec, auto is_last) {
    if constexpr (GRADIENT) backward<vec.value, is_last.value>(launch, p);
    else forward<vec.value, is_last.value>(launch, p);
  });
}

}  // namespace

namespace launchers {

void adain(
    const Tensor& content, const Tensor& style, const std::optional<Tensor>& mask, const Tensor& y, int64_t n, int64_t c, int64_t hw,
    int64_t style_hw, bool channels_last, double alpha, double eps) {
  const Launcher launch("adain", content);
  with_dtype("adain", content, [&](auto t) {
    using T = decltype(t);
    using W = acc_t<T>;
    solve<false>(
        launch,
        Problem<T>{
            nullptr, input<T>(content), input<T>(style), nullptr, nullptr, input<W>(mask), output<T>(y), nullptr, nullptr, nullptr, n, c,
            hw, style_hw, W(alpha), W(eps), Form::map},
        channels_last);
  });
}

void adain_backward(
    const Tensor& dy, const Tensor& content, const Tensor& style, const std::optional<Tensor>& mask, const Tensor& d_content,
    const Tensor& d_style, int64_t n, int64_t c, int64_t hw, int64_t style_hw, bool channels_last, double alpha, double eps) {
  const Launcher launch("adain_backward", dy);
  with_dtype("adain_backward", dy, [&](auto t) {
    using T = decltype(t);
    using W = acc_t<T>;
    solve<true>(
        launch,
        Problem<T>{
            input<T>(dy), input<T>(content), input<T>(style), nullptr, nullptr, input<W>(mask), output<T>(d_content), output<T>(d_style),
            nullptr, nullptr, n, c, hw, style_hw, W(alpha), W(eps), Form::map},
        channels_last);
  });
}

void adain_affine(
    const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& y, int64_t n, int64_t c, int64_t hw, bool channels_last,
    double eps) {
  const Launcher launch("adain_affine", x);
  with_dtype("adain_affine", x, [&](auto t) {
    using T = decltype(t);
    using W = acc_t<T>;
    solve<false>(
        launch,
        Problem<T>{
            nullptr, input<T>(x), nullptr, input<W>(scale), input<W>(shift), nullptr, output<T>(y), nullptr, nullptr, nullptr, n, c, hw, hw,
            W(1), W(eps), Form::affine},
        channels_last);
  });
}

void adain_affine_backward(
    const Tensor& dy, const Tensor& x, const Tensor& scale, const Tensor& dx, const Tensor& d_scale, const Tensor& d_shift, int64_t n,
    int64_t c, int64_t hw, bool channels_last, double eps) {
  const Launcher launch("adain_affine_backward", dy);
  with_dtype("adain_affine_backward", dy, [&](auto t) {
    using T = decltype(t);
    using W = acc_t<T>;
    solve<true>(
        launch,
        Problem<T>{
            input<T>(dy), input<T>(x), nullptr, input<W>(scale), nullptr, nullptr, output<T>(dx), nullptr, output<W>(d_scale),
            output<W>(d_shift), n, c, hw, hw, W(1), W(eps), Form::affine},
        channels_last);
  });
}

}  // namespace launchers
}  // namespace facegan
