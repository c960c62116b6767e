// What surrounds the convolution of a synthesis layer: modulate before it, the epilogue after it, and their gradients.
#include "cuda/fir.cuh"
#include "cuda/tiles.cuh"

namespace facegan {
namespace {

template <typename T, int VEC, bool LAST>
struct Modulate : Body<T, VEC, LAST> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  const T* x;
  const W* s;
  T* y;
  int64_t c;

  Modulate(const T* x_, const W* s_, T* y_, int64_t c_) : x(x_), s(s_), y(y_), c(c_) {}

  struct Thread {
    typename B::Channel s;
  };
  __device__ void channel(Thread& thread, int64_t n, int64_t at) const { thread.s = read<LAST ? VEC : 1>(s, n * c + at, W(1)); }
  __device__ void pixel(Thread&, int64_t, int64_t) const {}
  __device__ auto load(int64_t offset) const { return facegan::load<VEC>(x + offset); }
  template <typename C, typename P>
  __device__ void apply(const Thread& thread, const Pack<T, VEC>& loaded, int64_t offset, C&, P&) const {
    auto v = widen(loaded);
#pragma unroll
    for (int j = 0; j < VEC; ++j) v.v[j] *= thread.s.at(j);
    store(y + offset, v);
  }
};

template <typename T, int VEC>
struct Pair {
  Pack<T, VEC> a, b;
};

/// dx = g s, ds = sum over pixels of g x.
template <typename T, int VEC, bool LAST>
struct ModulateBackward : Body<T, VEC, LAST, 1> {
  using B = Body<T, VEC, LAST, 1>;
  using W = typename B::W;
  const T *g, *x;
  const W* s;
  T* dx;
  int64_t c;

  ModulateBackward(const T* g_, const T* x_, const W* s_, T* dx_, int64_t c_) : g(g_), x(x_), s(s_), dx(dx_), c(c_) {}

  struct Thread {
    typename B::Channel s;
  };
  __device__ void channel(Thread& thread, int64_t n, int64_t at) const { thread.s = read<LAST ? VEC : 1>(s, n * c + at, W(1)); }
  __device__ void pixel(Thread&, int64_t, int64_t) const {}
  __device__ Pair<T, VEC> load(int64_t offset) const { return {facegan::load<VEC>(g + offset), facegan::load<VEC>(x + offset)}; }
  template <typename C, typename P>
  __device__ void apply(const Thread& thread, const Pair<T, VEC>& loaded, int64_t offset, C& sums, P&) const {
    auto v = widen(loaded.a);
    const auto image = widen(loaded.b);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      sums[0].at(j) += v.v[j] * image.v[j];
      v.v[j] *= thread.s.at(j);
    }
    store(dx + offset, v);
  }
};

/// The parameters of the epilogue: d [n, c], noise [1 or n, hw], b [c], each optional.
template <typename T>
struct Parameters {
  const acc_t<T>* d;
  const T *noise, *b;
  int64_t c, noise_stride;  // between the samples' noises: hw, or 0 for one that all share
};

/// y = clamp(gain * act(x d + noise + b))
template <typename T, int VEC, bool LAST>
struct Epilogue : Body<T, VEC, LAST> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  Parameters<T> parameters;
  AnyActivation<W> activation;
  const T* x;
  T* y;

  Epilogue(const Parameters<T>& p, const AnyActivation<W>& a, const T* x_, T* y_) : parameters(p), activation(a), x(x_), y(y_) {}

  struct Thread {
    typename B::Channel d, b;
    typename B::Pixel noise;
  };
  __device__ void channel(Thread& thread, int64_t n, int64_t at) const {
    constexpr int N = LAST ? VEC : 1;
    thread.d = read<N>(parameters.d, n * parameters.c + at, W(1));
    thread.b = read<N>(parameters.b, at, W(0));
  }
  __device__ void pixel(Thread& thread, int64_t n, int64_t at) const {
    thread.noise = read<LAST ? 1 : VEC>(parameters.noise, n * parameters.noise_stride + at, W(0));
  }
  __device__ auto load(int64_t offset) const { return facegan::load<VEC>(x + offset); }
  __device__ void transform(const Thread& thread, Values<W, VEC>& v) const {
    activation.template with<false>([&](const auto& f) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) v.v[j] = f(epilogue(v.v[j], thread.d.at(j), thread.noise.at(j), thread.b.at(j)));
    });
  }
  template <typename C, typename P>
  __device__ void apply(const Thread& thread, const Pack<T, VEC>& loaded, int64_t offset, C&, P&) const {
    auto v = widen(loaded);
    transform(thread, v);
    store(y + offset, v);
  }
};

/// What a layer has besides whose styles vary by region, or which is added to others; each optional.
template <typename T>
struct Regions {
  const acc_t<T>* masks;  // [1 or n, count, hw], for all rows of d [n, 1 + count, c] but the first
  int64_t count, mask_stride;
  const T* onto;           // like y
  const acc_t<T>* weight;  // [1 or n, hw]
  int64_t weight_stride, hw;
};

/// y = onto + weight clamp(gain * act(x (d_0 + sum_k masks_k (d_k - d_0)) + noise + b))
template <typename T, int VEC, bool LAST>
struct RegionalEpilogue : Epilogue<T, VEC, LAST> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  using E = Epilogue<T, VEC, LAST>;
  Regions<T> regions;

  RegionalEpilogue(const Parameters<T>& p, const Regions<T>& r, const AnyActivation<W>& a, const T* x_, T* y_)
      : E(p, a, x_, y_), regions(r) {}

  struct Thread : E::Thread {
    int64_t n, c, p;
  };
  __device__ void channel(Thread& thread, int64_t n, int64_t at) const {
    thread.n = n, thread.c = at;
    thread.b = read<LAST ? VEC : 1>(this->parameters.b, at, W(0));
  }
  __device__ void pixel(Thread& thread, int64_t n, int64_t at) const {
    thread.n = n, thread.p = at;
    E::pixel(thread, n, at);
  }
  /// Masks and factors are read where they are needed, from the first cache: there may be any number of them.
  __device__ void transform(Thread& thread, Values<W, VEC>& v) const {
    constexpr int OF_CHANNEL = LAST ? VEC : 1, OF_PIXEL = LAST ? 1 : VEC;
    const int64_t c = this->parameters.c, row = thread.n * (1 + regions.count) * c + thread.c;
    const auto own = read<OF_CHANNEL>(this->parameters.d, row, W(1));
    Values<W, VEC> factor;
#pragma unroll
    for (int j = 0; j < VEC; ++j) factor.v[j] = own.at(j);
#pragma unroll 1
    for (int64_t k = 0; k < regions.count; ++k) {
      const auto other = read<OF_CHANNEL>(this->parameters.d, row + (k + 1) * c, W(1));
      const auto mask = read<OF_PIXEL>(regions.masks, thread.n * regions.mask_stride + k * regions.hw + thread.p, W(0));
#pragma unroll
      for (int j = 0; j < VEC; ++j) factor.v[j] += mask.at(j) * (other.at(j) - own.at(j));
    }
#pragma unroll
    for (int j = 0; j < VEC; ++j) v.v[j] *= factor.v[j];
#pragma unroll
    for (int j = 0; j < OF_CHANNEL; ++j) thread.d.v[j] = W(1);
    E::transform(thread, v);
    if (regions.onto == nullptr && regions.weight == nullptr) return;
    const int64_t place = LAST ? (thread.n * regions.hw + thread.p) * c + thread.c : (thread.n * c + thread.c) * regions.hw + thread.p;
    const auto onto = read<VEC>(regions.onto, place, W(0));
    const auto weight = read<OF_PIXEL>(regions.weight, thread.n * regions.weight_stride + thread.p, W(1));
#pragma unroll
    for (int j = 0; j < VEC; ++j) v.v[j] = blended(onto.v[j], weight.at(j), v.v[j]);
  }
  template <typename C, typename P>
  __device__ void apply(Thread& thread, const Pack<T, VEC>& loaded, int64_t offset, C&, P&) const {
    auto v = widen(loaded);
    transform(thread, v);
    store(this->y + offset, v);
  }
};

/// g = dy slope(y), dz = g d; per channel the sums of dy y m, g noise and g; NOISE: per pixel the sum of g.
template <typename T, int VEC, bool LAST, bool NOISE>
struct EpilogueBackward : Body<T, VEC, LAST, 3, NOISE ? 1 : 0> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  Parameters<T> parameters;
  AnyActivation<W> activation;
  const T *dy, *y;
  T* dz;

  EpilogueBackward(const Parameters<T>& p, const AnyActivation<W>& a, const T* dy_, const T* y_, T* dz_)
      : parameters(p), activation(a), dy(dy_), y(y_), dz(dz_) {}

  struct Thread {
    typename B::Channel d;
    typename B::Pixel noise;
  };
  __device__ void channel(Thread& thread, int64_t n, int64_t at) const {
    thread.d = read<LAST ? VEC : 1>(parameters.d, n * parameters.c + at, W(1));
  }
  __device__ void pixel(Thread& thread, int64_t n, int64_t at) const {
    thread.noise = read<LAST ? 1 : VEC>(parameters.noise, n * parameters.noise_stride + at, W(0));
  }
  __device__ Pair<T, VEC> load(int64_t offset) const { return {facegan::load<VEC>(dy + offset), facegan::load<VEC>(y + offset)}; }
  template <typename C, typename P>
  __device__ void apply(const Thread& thread, const Pair<T, VEC>& loaded, int64_t offset, C& channels, P& pixels) const {
    auto g = widen(loaded.a);
    const auto value = widen(loaded.b);
    activation.template with<false>([&](const auto& f) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        channels[0].at(j) += f.passes(value.v[j]) ? g.v[j] * value.v[j] : W(0);
        g.v[j] *= f.slope(value.v[j]);
      }
    });
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      channels[1].at(j) += g.v[j] * thread.noise.at(j);
      channels[2].at(j) += g.v[j];
      if constexpr (NOISE) pixels[0].at(j) += g.v[j];
      g.v[j] *= thread.d.at(j);
    }
    store(dz + offset, g);
  }
};

/// The inputs of EpilogueDoubleBackward besides dy and y; gsums [3, n, c] and gdn [1 or n, hw] are optional.
template <typename T>
struct Cotangents {
  const T* gdz;
  const acc_t<T>* gsums;
  const T* gdn;
  int64_t gdn_stride, plane;  // plane = n c, from one of the three sums to the next
};

/// d_dy = slope(y) (gdz d + G1 noise + G2 + gdn) + G0 y m, d_y = G0 dy m, per channel the sum of gdz g and per pixel that of G1 g.
template <typename T, int VEC, bool LAST, bool NOISE>
struct EpilogueDoubleBackward : Body<T, VEC, LAST, 1, NOISE ? 1 : 0> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  Parameters<T> parameters;
  Cotangents<T> cotangents;
  AnyActivation<W> activation;
  const T *dy, *y;
  T *d_dy, *d_y;

  EpilogueDoubleBackward(
      const Parameters<T>& p, const Cotangents<T>& g, const AnyActivation<W>& a, const T* dy_, const T* y_, T* d_dy_, T* d_y_)
      : parameters(p), cotangents(g), activation(a), dy(dy_), y(y_), d_dy(d_dy_), d_y(d_y_) {}

  struct Thread {
    typename B::Channel d, g0, g1, g2;
    typename B::Pixel noise, gdn;
  };
  struct Loaded {
    Pack<T, VEC> gdz, dy, y;
  };
  __device__ void channel(Thread& thread, int64_t n, int64_t at) const {
    constexpr int N = LAST ? VEC : 1;
    const int64_t index = n * parameters.c + at;
    const W* sums = cotangents.gsums;
    thread.d = read<N>(parameters.d, index, W(1));
    thread.g0 = read<N>(sums, index, W(0));
    thread.g1 = read<N>(sums, index + cotangents.plane, W(0));
    thread.g2 = read<N>(sums, index + 2 * cotangents.plane, W(0));
  }
  __device__ void pixel(Thread& thread, int64_t n, int64_t at) const {
    constexpr int N = LAST ? 1 : VEC;
    thread.noise = read<N>(parameters.noise, n * parameters.noise_stride + at, W(0));
    thread.gdn = read<N>(cotangents.gdn, n * cotangents.gdn_stride + at, W(0));
  }
  __device__ Loaded load(int64_t offset) const {
    return {facegan::load<VEC>(cotangents.gdz + offset), facegan::load<VEC>(dy + offset), facegan::load<VEC>(y + offset)};
  }
  template <typename C, typename P>
  __device__ void apply(const Thread& thread, const Loaded& loaded, int64_t offset, C& channels, P& pixels) const {
    auto out = widen(loaded.gdz), incoming = widen(loaded.dy);
    const auto value = widen(loaded.y);
    activation.template with<false>([&](const auto& f) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const W slope = f.slope(value.v[j]), g = incoming.v[j] * slope, gdz = out.v[j];
        const W g0 = f.passes(value.v[j]) ? thread.g0.at(j) : W(0);
        channels[0].at(j) += gdz * g;
        if constexpr (NOISE) pixels[0].at(j) += thread.g1.at(j) * g;
        const W inner = gdz * thread.d.at(j) + thread.g1.at(j) * thread.noise.at(j) + thread.g2.at(j) + thread.gdn.at(j);
        out.v[j] = slope * inner + g0 * value.v[j];
        incoming.v[j] *= g0;
      }
    });
    store(d_dy + offset, out);
    if (d_y != nullptr) store(d_y + offset, incoming);
  }
};

/// f(width, last) for maps of c channels and hw pixels, as `with_layout`.
template <typename T, typename F>
void with_map(int64_t c, int64_t hw, bool last, std::initializer_list<const void*> pointers, const F& f) {
  with_layout<T>((last ? c : hw) % kVector<T> == 0 && aligned(pointers), last, f);
}

/// Runs an epilogue over x, which is filtered first where there is a filter; `make(width, last)` is its body.
template <typename T, typename F>
void run_epilogue(
    const Launcher& launch, const Fir& fir, const T* x, const std::optional<Tensor>& filter, T* y, bool last,
    std::initializer_list<const void*> parameters, const F& make) {
  if (filter.has_value()) return run_fir<T>(launch, fir, x, input<acc_t<T>>(*filter), y, last, aligned(parameters), make);
  const int64_t hw = int64_t(fir.oh) * fir.ow;
  with_layout<T>((last ? fir.c : hw) % kVector<T> == 0 && aligned({x, y}) && aligned(parameters), last, [&](auto vec, auto is_last) {
    run(launch, make(vec, is_last), fir.n, fir.c, hw);
  });
}

}  // namespace

namespace launchers {

void modulate(const Tensor& x, const Tensor& s, const Tensor& y, int64_t n, int64_t c, int64_t hw, bool channels_last) {
  const Launcher launch("modulate", x);
  with_dtype("modulate", x, [&](auto t) {
    using T = decltype(t);
    const T* px = input<T>(x);
    const auto* ps = input<acc_t<T>>(s);
    T* py = output<T>(y);
    with_map<T>(c, hw, channels_last, {px, ps, py}, [&](auto vec, auto last) {
      run(launch, Modulate<T, vec.value, last.value>(px, ps, py, c), n, c, hw);
    });
  });
}

void modulate_backward(
    const Tensor& g, const Tensor& x, const Tensor& s, const Tensor& dx, const Tensor& ds, int64_t n, int64_t c, int64_t hw,
    bool channels_last) {
  const Launcher launch("modulate_backward", g);
  with_dtype("modulate_backward", g, [&](auto t) {
    using T = decltype(t);
    const T *pg = input<T>(g), *px = input<T>(x);
    const auto* ps = input<acc_t<T>>(s);
    T* pdx = output<T>(dx);
    const Total sums{output<acc_t<T>>(ds), n * c};
    with_map<T>(c, hw, channels_last, {pg, px, ps, pdx}, [&](auto vec, auto last) {
      run(launch, ModulateBackward<T, vec.value, last.value>(pg, px, ps, pdx, c), n, c, hw, sums);
    });
  });
}

void modulated_epilogue(
    const Tensor& x, const std::optional<Tensor>& d, const std::optional<Tensor>& noise, const std::optional<Tensor>& b,
    const std::optional<Tensor>& f, const Tensor& y, int64_t n, int64_t c, int64_t h, int64_t w, int64_t oh, int64_t ow, bool channels_last,
    int64_t noise_batch, int64_t kh, int64_t kw, int64_t pad_top, int64_t pad_left, int64_t act, double alpha, double gain, double clamp) {
  const Launcher launch("modulated_epilogue", x);
  with_dtype("modulated_epilogue", x, [&](auto t) {
    using T = decltype(t);
    const T* px = input<T>(x);
    T* py = output<T>(y);
    const Parameters<T> parameters{input<acc_t<T>>(d), input<T>(noise), input<T>(b), c, noise_batch > 1 ? oh * ow : 0};
    const AnyActivation<acc_t<T>> activation(act, alpha, gain, clamp);
    const Fir fir{n, c, int(h), int(w), int(oh), int(ow), int(kh), int(kw), 1, 1, 1, 1, int(pad_top), int(pad_left), false, 1.0};
    run_epilogue<T>(launch, fir, px, f, py, channels_last, {parameters.d, parameters.noise, parameters.b}, [&](auto vec, auto last) {
      return Epilogue<T, vec.value, last.value>(parameters, activation, px, py);
    });
  });
}

void regional_epilogue(
    const Tensor& x, const std::optional<Tensor>& d, const std::optional<Tensor>& masks, const std::optional<Tensor>& noise,
    const std::optional<Tensor>& b, const std::optional<Tensor>& f, const std::optional<Tensor>& onto, const std::optional<Tensor>& weight,
    const Tensor& y, int64_t n, int64_t c, int64_t h, int64_t w, int64_t oh, int64_t ow, bool channels_last, int64_t regions,
    int64_t mask_batch, int64_t noise_batch, int64_t weight_batch, int64_t kh, int64_t kw, int64_t pad_top, int64_t pad_left, int64_t act,
    double alpha, double gain, double clamp) {
  const Launcher launch("regional_epilogue", x);
  with_dtype("regional_epilogue", x, [&](auto t) {
    using T = decltype(t);
    using W = acc_t<T>;
    const T* px = input<T>(x);
    T* py = output<T>(y);
    const int64_t hw = oh * ow;
    const Parameters<T> parameters{input<W>(d), input<T>(noise), input<T>(b), c, noise_batch > 1 ? hw : 0};
    const Regions<T> areas{input<W>(masks),           regions, mask_batch > 1 ? regions * hw : 0, input<T>(onto), input<W>(weight),
                           weight_batch > 1 ? hw : 0, hw};
    const AnyActivation<W> activation(act, alpha, gain, clamp);
    const Fir fir{n, c, int(h), int(w), int(oh), int(ow), int(kh), int(kw), 1, 1, 1, 1, int(pad_top), int(pad_left), false, 1.0};
    run_epilogue<T>(
        launch, fir, px, f, py, channels_last, {parameters.d, parameters.noise, parameters.b, areas.masks, areas.onto, areas.weight},
        [&](auto vec, auto last) { return RegionalEpilogue<T, vec.value, last.value>(parameters, areas, activation, px, py); });
  });
}

void modulated_epilogue_backward(
    const Tensor& dy, const Tensor& y, const std::optional<Tensor>& d, const std::optional<Tensor>& noise, const Tensor& dz,
    const Tensor& sums, const std::optional<Tensor>& dn, int64_t n, int64_t c, int64_t hw, bool channels_last, int64_t noise_batch,
    int64_t dn_batch, int64_t act, double alpha, double gain, double clamp) {
  const Launcher launch("modulated_epilogue_backward", dy);
  with_dtype("modulated_epilogue_backward", dy, [&](auto t) {
    using T = decltype(t);
    using W = acc_t<T>;
    const T *pdy = input<T>(dy), *py = input<T>(y);
    T* pdz = output<T>(dz);
    const Parameters<T> parameters{input<W>(d), input<T>(noise), nullptr, c, noise_batch > 1 ? hw : 0};
    const AnyActivation<W> activation(act, alpha, gain, clamp);
    const Total channels{output<W>(sums), 3 * n * c}, pixels{output<T>(dn), dn_batch * hw, true};
    with_map<T>(c, hw, channels_last, {pdy, py, pdz, parameters.d, parameters.noise}, [&](auto vec, auto last) {
      const auto go = [&](auto noise_sum) {
        run(launch, EpilogueBackward<T, vec.value, last.value, noise_sum.value>(parameters, activation, pdy, py, pdz), n, c, hw, channels,
            pixels);
      };
      dn.has_value() ? go(std::true_type()) : go(std::false_type());
    });
  });
}

void modulated_epilogue_double_backward(
    const Tensor& gdz, const std::optional<Tensor>& gsums, const std::optional<Tensor>& gdn, const Tensor& dy, const Tensor& y,
    const std::optional<Tensor>& d, const std::optional<Tensor>& noise, const Tensor& d_dy, const std::optional<Tensor>& d_y,
    const std::optional<Tensor>& d_d, const std::optional<Tensor>& d_noise, int64_t n, int64_t c, int64_t hw, bool channels_last,
    int64_t gdn_batch, int64_t noise_batch, int64_t act, double alpha, double gain, double clamp) {
  const Launcher launch("modulated_epilogue_double_backward", dy);
  with_dtype("modulated_epilogue_double_backward", dy, [&](auto t) {
    using T = decltype(t);
    using W = acc_t<T>;
    const T *pdy = input<T>(dy), *py = input<T>(y);
    T *pd_dy = output<T>(d_dy), *pd_y = output<T>(d_y);
    const Parameters<T> parameters{input<W>(d), input<T>(noise), nullptr, c, noise_batch > 1 ? hw : 0};
    const Cotangents<T> cotangents{input<T>(gdz), input<W>(gsums), input<T>(gdn), gdn_batch > 1 ? hw : 0, n * c};
    const AnyActivation<W> activation(act, alpha, gain, clamp);
    // Without d nobody asks for its gradient: the body's sum over pixels then goes to a scratch that is dropped.
    const std::optional<Tensor> unasked = d_d.has_value() ? std::nullopt : std::optional<Tensor>(launch.scratch<W>(n * c));
    const Total channels{output<W>(d_d.has_value() ? d_d : unasked), n * c}, pixels{output<T>(d_noise), noise_batch * hw, true};
    const std::initializer_list<const void*> pointers{
        pdy, py, pd_dy, pd_y, cotangents.gdz, cotangents.gsums, cotangents.gdn, parameters.d, parameters.noise};
    with_map<T>(c, hw, channels_last, pointers, [&](auto vec, auto last) {
      const auto go = [&](auto noise_sum) {
        run(launch,
            EpilogueDoubleBackward<T, vec.value, last.value, noise_sum.value>(parameters, cotangents, activation, pdy, py, pd_dy, pd_y), n,
            c, hw, channels, pixels);
      };
      d_noise.has_value() ? go(std::true_type()) : go(std::false_type());
    });
  });
}

}  // namespace launchers
}  // namespace facegan
