// bias_act: y = clamp(gain * act(x + b)), its gradient with the bias' sum, and the gradient's gradient; one pass each.
#include "cuda/tiles.cuh"

namespace facegan {
namespace {

template <typename T, int VEC, bool LAST>
struct Forward : Body<T, VEC, LAST> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  const T *x, *b;
  T* y;
  AnyActivation<W> activation;

  Forward(const T* x_, const T* b_, T* y_, const AnyActivation<W>& a) : x(x_), b(b_), y(y_), activation(a) {}

  struct Thread {
    typename B::Channel b;
  };
  __device__ void channel(Thread& thread, int64_t, int64_t c) const { thread.b = read<LAST ? VEC : 1>(b, c, W(0)); }
  __device__ void pixel(Thread&, int64_t, int64_t) const {}
  __device__ auto load(int64_t offset) const { return facegan::load<VEC>(x + offset); }
  template <typename C, typename P>
  __device__ void apply(const Thread& thread, const Pack<T, VEC>& loaded, int64_t offset, C&, P&) const {
    auto v = widen(loaded);
    activation.template with<true>([&](const auto& f) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) v.v[j] = f(v.v[j] + thread.b.at(j));
    });
    store(y + offset, v);
  }
};

template <typename T, int VEC>
struct Pair {
  Pack<T, VEC> dy, y;
};

/// dx = dy slope(y); SUM: also the sum of dx over all but the channel.
template <typename T, int VEC, bool LAST, bool SUM>
struct Backward : Body<T, VEC, LAST, SUM ? 1 : 0> {
  using W = acc_t<T>;
  const T *dy, *y;
  T* dx;
  AnyActivation<W> activation;

  Backward(const T* dy_, const T* y_, T* dx_, const AnyActivation<W>& a) : dy(dy_), y(y_), dx(dx_), activation(a) {}

  struct Thread {};
  __device__ void channel(Thread&, int64_t, int64_t) const {}
  __device__ void pixel(Thread&, int64_t, int64_t) const {}
  __device__ Pair<T, VEC> load(int64_t offset) const { return {facegan::load<VEC>(dy + offset), facegan::load<VEC>(y + offset)}; }
  template <typename C, typename P>
  __device__ void apply(const Thread&, const Pair<T, VEC>& loaded, int64_t offset, C& sums, P&) const {
    auto g = widen(loaded.dy);
    const auto v = widen(loaded.y);
    activation.template with<true>([&](const auto& f) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) g.v[j] *= f.slope(v.v[j]);
    });
    if constexpr (SUM) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) sums[0].at(j) += g.v[j];
    }
    store(dx + offset, g);
  }
};

template <typename T, int VEC>
struct Triple {
  Pack<T, VEC> ddx, dy, y;
};

/// t = ddx + ddb; d_dy = t slope(y), d_y = t dy slope'(y).
template <typename T, int VEC, bool LAST>
struct DoubleBackward : Body<T, VEC, LAST> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  const T *ddx, *ddb, *dy, *y;
  T *d_dy, *d_y;
  AnyActivation<W> activation;

  DoubleBackward(const T* ddx_, const T* ddb_, const T* dy_, const T* y_, T* d_dy_, T* d_y_, const AnyActivation<W>& a)
      : ddx(ddx_), ddb(ddb_), dy(dy_), y(y_), d_dy(d_dy_), d_y(d_y_), activation(a) {}

  struct Thread {
    typename B::Channel ddb;
  };
  __device__ void channel(Thread& thread, int64_t, int64_t c) const { thread.ddb = read<LAST ? VEC : 1>(ddb, c, W(0)); }
  __device__ void pixel(Thread&, int64_t, int64_t) const {}
  __device__ Triple<T, VEC> load(int64_t offset) const {
    return {facegan::load<VEC>(ddx + offset), facegan::load<VEC>(dy + offset), facegan::load<VEC>(y + offset)};
  }
  template <typename C, typename P>
  __device__ void apply(const Thread& thread, const Triple<T, VEC>& loaded, int64_t offset, C&, P&) const {
    auto g = widen(loaded.ddx), v = widen(loaded.y);
    const auto incoming = widen(loaded.dy);
    activation.template with<true>([&](const auto& f) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const W t = g.v[j] + thread.ddb.at(j), value = v.v[j];
        g.v[j] = t * f.slope(value);
        v.v[j] = t * incoming.v[j] * f.slope_derivative(value);
      }
    });
    store(d_dy + offset, g);
    if (d_y != nullptr) store(d_y + offset, v);
  }
};

/// f(width, last, go): `go(body, totals...)` runs a body over [outer, c, inner], or over all elements alike without a bias.
template <typename T, typename F>
void over(const Launcher& launch, int64_t outer, int64_t c, int64_t inner, bool biased, bool vector, const F& f) {
  const bool last = biased && inner == 1;
  const int64_t count = outer * c * inner, columns = last ? c : biased ? inner : count;
  with_layout<T>(vector && columns % kVector<T> == 0, last, [&](auto vec, auto is_last) {
    f(vec, is_last, [&](const auto& body, Total sums = {}) {
      if (!biased) run_flat(launch, body, count);
      else run(launch, body, last ? 1 : outer, c, last ? outer : inner, sums);
    });
  });
}

}  // namespace

namespace launchers {

void bias_act(
    const Tensor& x, const std::optional<Tensor>& b, const Tensor& y, int64_t outer, int64_t c, int64_t inner, int64_t act, double alpha,
    double gain, double clamp) {
  const Launcher launch("bias_act", x);
  with_dtype("bias_act", x, [&](auto t) {
    using T = decltype(t);
    const T *px = input<T>(x), *pb = input<T>(b);
    T* py = output<T>(y);
    const AnyActivation<acc_t<T>> activation(act, alpha, gain, clamp);
    over<T>(launch, outer, c, inner, b.has_value(), aligned({px, pb, py}), [&](auto vec, auto last, const auto& go) {
      go(Forward<T, vec.value, last.value>(px, pb, py, activation));
    });
  });
}

void bias_act_backward(
    const Tensor& dy, const Tensor& y, const Tensor& dx, const std::optional<Tensor>& db, int64_t outer, int64_t c, int64_t inner,
    int64_t act, double alpha, double gain, double clamp) {
  const Launcher launch("bias_act_backward", dy);
  with_dtype("bias_act_backward", dy, [&](auto t) {
    using T = decltype(t);
    const T *pdy = input<T>(dy), *py = input<T>(y);
    T *pdx = output<T>(dx), *pdb = output<T>(db);
    const AnyActivation<acc_t<T>> activation(act, alpha, gain, clamp);
    over<T>(launch, outer, c, inner, db.has_value(), aligned({pdy, py, pdx}), [&](auto vec, auto last, const auto& go) {
      if (db.has_value()) go(Backward<T, vec.value, last.value, true>(pdy, py, pdx, activation), Total{pdb, c, true});
      else go(Backward<T, vec.value, false, false>(pdy, py, pdx, activation));  // flat: no channel
    });
  });
}

void bias_act_double_backward(
    const Tensor& ddx, const std::optional<Tensor>& ddb, const Tensor& dy, const Tensor& y, const Tensor& d_dy,
    const std::optional<Tensor>& d_y, int64_t outer, int64_t c, int64_t inner, int64_t act, double alpha, double gain, double clamp) {
  const Launcher launch("bias_act_double_backward", ddx);
  with_dtype("bias_act_double_backward", ddx, [&](auto t) {
    using T = decltype(t);
    const T *pddx = input<T>(ddx), *pddb = input<T>(ddb), *pdy = input<T>(dy), *py = input<T>(y);
    T *pd_dy = output<T>(d_dy), *pd_y = output<T>(d_y);
    const AnyActivation<acc_t<T>> activation(act, alpha, gain, clamp);
    over<T>(
        launch, outer, c, inner, ddb.has_value(), aligned({pddx, pddb, pdy, py, pd_dy, pd_y}), [&](auto vec, auto last, const auto& go) {
      go(DoubleBackward<T, vec.value, last.value>(pddx, pddb, pdy, py, pd_dy, pd_y, activation));
    });
  });
}

}  // namespace launchers
}  // namespace facegan
