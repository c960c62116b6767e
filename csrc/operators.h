// The operators of the schemas in ops.cpp, once for all devices: formats, dtypes, sizes and results are settled here, then a launcher
// of launchers.h does the work. `FACEGAN_OPERATORS(key)` registers them in the library that includes this.
//
// * A call goes by one of its maps: the results have its dtype and the memory format that its strides suggest. Other maps are brought
//   to them, and all of them to float32 where that dtype is float16 on a CPU, which has no kernels of it.
// * What has no elements is settled here too: launchers see tensors with elements only, and sums over nothing are zeros.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "formulas.h"
#include "launchers.h"

namespace facegan::operators {

using torch::headeronly::ScalarType;
using Sizes = std::vector<int64_t>;

constexpr size_t kRanks = 64;  // as many as PyTorch's tensors can have

/// The one rule for "which dense format" (facegan/ops/formats.py has it in Python), that of at::Tensor::suggest_memory_format: whether x's strides suggest channels_last
/// (of rank 4 or 5). Of the strides that both formats have ([N, 1, H, W], [N, C, 1, 1]) those of rows count as rows.
inline bool suggests_channels_last(const Tensor& x) {
  const int64_t rank = x.dim();
  if (rank != 4 && rank != 5) return false;
  const auto sizes = x.sizes(), strides = x.strides();
  if (strides[1] == 0) return false;
  int64_t least = 0;
  const auto follows = [&](int64_t d) {
    if (sizes[d] == 0 || strides[d] < least || (d == 0 && least == strides[1])) return false;
    least = strides[d] * sizes[d];
    return true;
  };
  if (!follows(1)) return false;
  for (int64_t d = rank - 1; d > 1; --d)
    if (!follows(d)) return false;
  return follows(0);
}

/// The strides that torch.empty gives to a tensor of a format.
inline std::array<int64_t, kRanks> dense_strides(const int64_t* sizes, int64_t rank, bool channels_last) {
  std::array<int64_t, kRanks> strides;
  int64_t step = 1;
  if (channels_last) strides[1] = 1, step = sizes[1];
  for (int64_t d = rank - 1; d >= 0; --d) {
    if (channels_last && d == 1) continue;
    strides[d] = step;
    step *= channels_last || sizes[d] > 1 ? sizes[d] : 1;
  }
  return strides;
}

/// Whether x lies as a tensor of a format does; of dimensions of one element the stride is of no account, unless `exactly`.
inline bool lies(const Tensor& x, bool channels_last, bool exactly = false) {
  const auto sizes = x.sizes(), strides = x.strides();
  const int64_t rank = x.dim();
  const auto wanted = dense_strides(sizes.data(), rank, channels_last);
  bool empty = false, equal = true;
  for (int64_t d = 0; d < rank; ++d) {
    empty = empty || sizes[d] == 0;
    equal = equal && (strides[d] == wanted[d] || (sizes[d] == 1 && !exactly));
  }
  return equal || (empty && !exactly);
}

inline ScalarType acc_dtype(ScalarType dtype) {
  return dtype == ScalarType::Half || dtype == ScalarType::BFloat16 ? ScalarType::Float : dtype;
}

/// The value that an element of `dtype` has after it was given this one.
inline double stored(double value, ScalarType dtype) {
  if (dtype == ScalarType::Half) return float(torch::headeronly::Half(float(value)));
  if (dtype == ScalarType::BFloat16) return float(torch::headeronly::BFloat16(float(value)));
  return dtype == ScalarType::Float ? double(float(value)) : value;
}

/// The clamp as launchers take it, negative for none: a limit that the dtype can hold, as a clamped element is known by its value.
inline double limit(const std::optional<double>& clamp, ScalarType dtype) {
  if (!clamp) return -1;
  const double half = 65504, brain = 0x1.fep127, single = std::numeric_limits<float>::max(), wide = std::numeric_limits<double>::max();
  const double most = dtype == ScalarType::Half ? half : dtype == ScalarType::BFloat16 ? brain : dtype == ScalarType::Float ? single : wide;
  return stored(std::min(*clamp, most), dtype);
}

inline int64_t kind(const char* op, const std::string& act) {
  constexpr std::array<const char*, 5> kNames{"linear", "relu", "lrelu", "tanh", "sigmoid"};  // enum class Act of formulas.h
  for (size_t i = 0; i < kNames.size(); ++i)
    if (act == kNames[i]) return int64_t(i);
  STD_TORCH_CHECK(false, "facegan::", op, ": act is '", act, "'; expected one of linear, relu, lrelu, tanh, sigmoid.");
}

/// One call of an operator: its device, its dtypes and its format, which are those of one of its maps.
class Call {
 public:
  Call(const char* op, const Tensor& x) : op_(op), given_(x.scalar_type()), last_(suggests_channels_last(x)) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(x.get(), &device_type_));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(x.get(), &device_index_));
    const bool through_float32 = given_ == ScalarType::Half && device_type_ == aoti_torch_device_type_cpu();
    dtype_ = through_float32 ? ScalarType::Float : given_;
  }

  bool channels_last() const { return last_; }

  /// A map in the call's dtype and format.
  Tensor map(const Tensor& x) const { return brought(x, dtype_, last_); }
  /// [C], noise [.., 1, H, W]: in the call's dtype, in rows.
  Tensor row(const Tensor& x) const { return brought(x, dtype_, false); }
  OptionalTensor row(const OptionalTensor& x) const { return x ? OptionalTensor(row(*x)) : std::nullopt; }
  /// [N, C] and other parameters: in the accumulator dtype, in rows.
  Tensor factor(const Tensor& x) const { return brought(x, acc_dtype(dtype_), false); }
  OptionalTensor factor(const OptionalTensor& x) const { return x ? OptionalTensor(factor(*x)) : std::nullopt; }

  /// Fresh memory: a map, a row, sums in the accumulator dtype.
  Tensor empty_map(const Tensor& like) const { return empty(like.sizes().data(), like.dim(), dtype_, last_); }
  Tensor empty_map(std::initializer_list<int64_t> sizes) const { return empty(sizes.begin(), int64_t(sizes.size()), dtype_, last_); }
  Tensor empty_row(std::initializer_list<int64_t> sizes) const { return empty(sizes.begin(), int64_t(sizes.size()), dtype_, false); }
  Tensor empty_sums(std::initializer_list<int64_t> sizes) const {
    return empty(sizes.begin(), int64_t(sizes.size()), acc_dtype(dtype_), false);
  }
  /// What a call returns in the place of a result that there is not.
  Tensor nothing() const { return empty_row({0}); }

  /// A result in the dtype that the caller knows: a map in the call's format or in that of `like`, a row.
  Tensor result(const Tensor& y) const { return finished(y, last_ && y.dim() > 3); }
  Tensor result(const Tensor& y, const Tensor& like) const { return finished(y, suggests_channels_last(like)); }
  Tensor row_result(const Tensor& y) const { return finished(y, false); }

  double limit(const std::optional<double>& clamp) const { return operators::limit(clamp, given_); }
  int64_t act(const std::string& name) const { return kind(op_, name); }

 private:
  Tensor empty(const int64_t* sizes, int64_t rank, ScalarType dtype, bool channels_last) const {
    AtenTensorHandle fresh = nullptr;
    const auto strides = dense_strides(sizes, rank, channels_last);
    TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(rank, sizes, strides.data(), code(dtype), device_type_, device_index_, &fresh));
    return Tensor(fresh);
  }

  static int32_t code(ScalarType dtype) {
    if (dtype == ScalarType::Float) return aoti_torch_dtype_float32();
    if (dtype == ScalarType::Double) return aoti_torch_dtype_float64();
    return dtype == ScalarType::Half ? aoti_torch_dtype_float16() : aoti_torch_dtype_bfloat16();
  }

  Tensor copied(const Tensor& x, ScalarType dtype, bool channels_last) const {
    const Tensor y = empty(x.sizes().data(), x.dim(), dtype, channels_last);
    TORCH_ERROR_CODE_CHECK(aoti_torch_copy_(y.get(), x.get(), 0));
    return y;
  }

  Tensor brought(const Tensor& x, ScalarType dtype, bool channels_last) const {
    int32_t type = 0, index = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(x.get(), &type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(x.get(), &index));
    STD_TORCH_CHECK(
        type == device_type_ && index == device_index_, "facegan::", op_, ": its tensors lie on different devices; expected one.");
    return x.scalar_type() == dtype && lies(x, channels_last) ? x : copied(x, dtype, channels_last);
  }

  Tensor finished(const Tensor& y, bool channels_last) const {
    const ScalarType dtype = y.scalar_type() == dtype_ ? given_ : y.scalar_type();
    return y.scalar_type() == dtype && lies(y, channels_last, true) ? y : copied(y, dtype, channels_last);
  }

  const char* op_;
  ScalarType given_, dtype_;  // what the caller knows, what the kernels compute
  bool last_;
  int32_t device_type_ = 0, device_index_ = 0;
};

inline void zero(const Tensor& x) {
  if (x.numel() > 0) TORCH_ERROR_CODE_CHECK(aoti_torch_zero_(x.get()));
}

template <typename... Rest>
void zero(const Tensor& first, const Rest&... rest) {
  zero(first);
  (zero(rest), ...);
}

/// The sizes of a map [N, C, H, W].
struct Extent {
  int64_t n, c, h, w;
  explicit Extent(const Tensor& x) : n(x.size(0)), c(x.size(1)), h(x.size(2)), w(x.size(3)) {}
  int64_t hw() const { return h * w; }
};

// --- bias_act -----------------------------------------------------------------------------------------------------------

/// x as [outer, c, inner] in the order of memory, c along `dim`; without a bias as a single row.
struct Along {
  int64_t outer = 1, c = 1, inner = 1;

  Along(const Call& call, const Tensor& x, int64_t dim, bool biased) {
    if (!biased) {
      inner = x.numel();
      return;
    }
    const auto sizes = x.sizes();
    const int64_t rank = x.dim();
    // channels_last has dimension 1 behind all others
    const auto place = [&](int64_t d) { return !call.channels_last() ? d : d == 1 ? rank : d; };
    for (int64_t d = 0; d < rank; ++d) (place(d) < place(dim) ? outer : place(d) > place(dim) ? inner : c) *= sizes[d];
  }
};

inline Tensor bias_act(
    const Tensor& x_, const OptionalTensor& b, int64_t dim, const std::string& act, double alpha, double gain,
    const std::optional<double>& clamp) {
  const Call call("bias_act", x_);
  const Tensor x = call.map(x_), y = call.empty_map(x);
  const Along along(call, x, dim, b.has_value());
  if (x.numel() > 0)
    launchers::bias_act(x, call.row(b), y, along.outer, along.c, along.inner, call.act(act), alpha, gain, call.limit(clamp));
  return call.result(y);
}

inline std::tuple<Tensor, Tensor> bias_act_backward(
    const Tensor& dy_, const Tensor& y_, int64_t dim, bool bias, const std::string& act, double alpha, double gain,
    const std::optional<double>& clamp) {
  const Call call("bias_act_backward", dy_);
  const Tensor dy = call.map(dy_), y = call.map(y_), dx = call.empty_map(dy);
  const Tensor db = bias ? call.empty_row({y.size(dim)}) : call.nothing();
  const Along along(call, y, dim, bias);
  if (dy.numel() == 0) {
    zero(db);
  } else {
    launchers::bias_act_backward(
        dy, y, dx, bias ? OptionalTensor(db) : std::nullopt, along.outer, along.c, along.inner, call.act(act), alpha, gain,
        call.limit(clamp));
  }
  return {call.result(dx), call.row_result(db)};
}

inline std::tuple<Tensor, Tensor> bias_act_double_backward(
    const Tensor& ddx, const OptionalTensor& ddb, const Tensor& dy, const Tensor& y_, int64_t dim, const std::string& act, double alpha,
    double gain, const std::optional<double>& clamp) {
  const Call call("bias_act_double_backward", y_);
  const Tensor y = call.map(y_), d_dy = call.empty_map(y);
  const int64_t kind = call.act(act);
  const bool varies = kind == int64_t(Act::tanh) || kind == int64_t(Act::sigmoid);
  const Tensor d_y = varies ? call.empty_map(y) : call.nothing();
  const Along along(call, y, dim, ddb.has_value());
  if (y.numel() > 0) {
    launchers::bias_act_double_backward(
        call.map(ddx), call.row(ddb), call.map(dy), y, d_dy, varies ? OptionalTensor(d_y) : std::nullopt, along.outer, along.c, along.inner,
        kind, alpha, gain, call.limit(clamp));
  }
  return {call.result(d_dy), call.result(d_y)};
}

// --- upfirdn2d ----------------------------------------------------------------------------------------------------------

/// The taps of a filter as launchers take them: [kh, kw], or [kh] along both axes with kw = 0.
struct Taps {
  int64_t kh, kw;
  explicit Taps(const Tensor& f) : kh(f.size(0)), kw(f.dim() == 2 ? f.size(1) : 0) {}
  int64_t columns() const { return kw == 0 ? kh : kw; }
};

/// The number of steps of `down` from 0 up to `last`, both included; 0 for a negative one.
inline int64_t outputs(int64_t last, int64_t down) { return last < 0 ? 0 : last / down + 1; }

inline Tensor upfirdn2d(
    const Tensor& x_, const Tensor& f, const Sizes& up, const Sizes& down, const Sizes& padding, bool flip_filter, double gain) {
  const Call call("upfirdn2d", x_);
  const Tensor x = call.map(x_);
  const Extent in(x);
  const Taps taps(f);
  const int64_t oh = outputs(in.h * up[0] + padding[0] + padding[1] - taps.kh, down[0]);
  const int64_t ow = outputs(in.w * up[1] + padding[2] + padding[3] - taps.columns(), down[1]);
  const Tensor y = call.empty_map({in.n, in.c, oh, ow});
  if (x.numel() == 0) {
    zero(y);
  } else if (y.numel() > 0) {
    launchers::upfirdn2d(
        x, call.factor(f), y, in.n, in.c, in.h, in.w, oh, ow, call.channels_last(), taps.kh, taps.kw, up[0], up[1], down[0], down[1],
        padding[0], padding[2], flip_filter, gain);
  }
  return call.result(y);
}

// --- adain --------------------------------------------------------------------------------------------------------------

inline void check_style(const Tensor& content, const Tensor& style) {
  STD_TORCH_CHECK(
      content.numel() == 0 || style.numel() > 0, "facegan::adain: style has no pixels; expected at least one to take statistics of.");
}

inline Tensor adain(const Tensor& content, const Tensor& style, double alpha, const OptionalTensor& mask, double eps) {
  check_style(content, style);
  const Call call("adain", content);
  const Tensor c = call.map(content), y = call.empty_map(c);
  const Extent e(c);
  if (c.numel() > 0)
    launchers::adain(c, call.map(style), call.factor(mask), y, e.n, e.c, e.hw(), Extent(style).hw(), call.channels_last(), alpha, eps);
  return call.result(y);
}

inline std::tuple<Tensor, Tensor> adain_backward(
    const Tensor& dy, const Tensor& content, const Tensor& style, double alpha, const OptionalTensor& mask, double eps) {
  check_style(content, style);
  const Call call("adain_backward", content);
  const Tensor c = call.map(content), s = call.map(style), d_content = call.empty_map(c), d_style = call.empty_map(s);
  const Extent e(c);
  if (c.numel() == 0) {
    zero(d_style);
  } else {
    launchers::adain_backward(
        call.map(dy), c, s, call.factor(mask), d_content, d_style, e.n, e.c, e.hw(), Extent(s).hw(), call.channels_last(), alpha, eps);
  }
  return {call.result(d_content), call.result(d_style, style)};
}

inline Tensor adain_affine(const Tensor& x_, const Tensor& scale, const Tensor& shift, double eps) {
  const Call call("adain_affine", x_);
  const Tensor x = call.map(x_), y = call.empty_map(x);
  const Extent e(x);
  if (x.numel() > 0) launchers::adain_affine(x, call.factor(scale), call.factor(shift), y, e.n, e.c, e.hw(), call.channels_last(), eps);
  return call.result(y);
}

inline std::tuple<Tensor, Tensor, Tensor> adain_affine_backward(const Tensor& dy, const Tensor& x_, const Tensor& scale, double eps) {
  const Call call("adain_affine_backward", x_);
  const Tensor x = call.map(x_), dx = call.empty_map(x);
  const Extent e(x);
  const Tensor d_scale = call.empty_sums({e.n, e.c}), d_shift = call.empty_sums({e.n, e.c});
  if (x.numel() == 0) {
    zero(d_scale, d_shift);
  } else {
    launchers::adain_affine_backward(
        call.map(dy), x, call.factor(scale), dx, d_scale, d_shift, e.n, e.c, e.hw(), call.channels_last(), eps);
  }
  return {call.result(dx), d_scale, d_shift};
}

// --- modulated_conv2d ---------------------------------------------------------------------------------------------------

inline Tensor modulate(const Tensor& x_, const Tensor& s) {
  const Call call("modulate", x_);
  const Tensor x = call.map(x_), y = call.empty_map(x);
  const Extent e(x);
  if (x.numel() > 0) launchers::modulate(x, call.factor(s), y, e.n, e.c, e.hw(), call.channels_last());
  return call.result(y);
}

inline std::tuple<Tensor, Tensor> modulate_backward(const Tensor& g_, const Tensor& x, const Tensor& s) {
  const Call call("modulate_backward", g_);
  const Tensor g = call.map(g_), dx = call.empty_map(g);
  const Extent e(g);
  const Tensor ds = call.empty_sums({e.n, e.c});
  if (g.numel() == 0) zero(ds);
  else launchers::modulate_backward(g, call.map(x), call.factor(s), dx, ds, e.n, e.c, e.hw(), call.channels_last());
  return {call.result(dx), ds};
}

inline int64_t batch(const OptionalTensor& noise) { return noise ? noise->size(0) : 0; }

/// The maps of an epilogue, which perhaps filters: x and what it becomes.
struct Filtered {
  Tensor x, y;
  OptionalTensor filter;
  int64_t h, w, oh, ow, kh = 0, kw = 0, pad_top = 0, pad_left = 0;

  Filtered(const Call& call, const Tensor& x_, const OptionalTensor& f, const Sizes& padding)
      : x(call.map(x_)), y(x), filter(call.factor(f)), h(x.size(2)), w(x.size(3)), oh(h), ow(w) {
    if (f) {
      const Taps taps(*f);
      kh = taps.kh, kw = taps.kw, pad_top = padding[0], pad_left = padding[2];
      oh = h + padding[0] + padding[1] - kh + 1, ow = w + padding[2] + padding[3] - taps.columns() + 1;
    }
    y = call.empty_map({x.size(0), x.size(1), oh, ow});
    if (x.numel() > 0 || y.numel() == 0) return;
    x = call.empty_map(y);  // pixels of padding alone, which are zeros
    zero(x);
    h = oh, w = ow, filter = std::nullopt, kh = kw = pad_top = pad_left = 0;
  }
};

inline Tensor modulated_epilogue(
    const Tensor& x, const OptionalTensor& d, const OptionalTensor& noise, const OptionalTensor& b, const OptionalTensor& f,
    const Sizes& padding, const std::string& act, double alpha, double gain, const std::optional<double>& clamp) {
  const Call call("modulated_epilogue", x);
  const Filtered maps(call, x, f, padding);
  if (maps.y.numel() > 0) {
    launchers::modulated_epilogue(
        maps.x, call.factor(d), call.row(noise), call.row(b), maps.filter, maps.y, x.size(0), x.size(1), maps.h, maps.w, maps.oh, maps.ow,
        call.channels_last(), batch(noise), maps.kh, maps.kw, maps.pad_top, maps.pad_left, call.act(act), alpha, gain, call.limit(clamp));
  }
  return call.result(maps.y);
}

inline Tensor regional_epilogue(
    const Tensor& x, const OptionalTensor& d, const OptionalTensor& masks, const OptionalTensor& noise, const OptionalTensor& b,
    const OptionalTensor& f, const Sizes& padding, const OptionalTensor& onto, const OptionalTensor& weight, const std::string& act,
    double alpha, double gain, const std::optional<double>& clamp) {
  const Call call("regional_epilogue", x);
  const Filtered maps(call, x, f, padding);
  if (maps.y.numel() > 0) {
    launchers::regional_epilogue(
        maps.x, call.factor(d), call.factor(masks), call.row(noise), call.row(b), maps.filter,
        onto ? OptionalTensor(call.map(*onto)) : std::nullopt, call.factor(weight), maps.y, x.size(0), x.size(1), maps.h, maps.w, maps.oh,
        maps.ow, call.channels_last(), d && masks ? masks->size(1) : 0, batch(masks), batch(noise), batch(weight), maps.kh, maps.kw,
        maps.pad_top, maps.pad_left, call.act(act), alpha, gain, call.limit(clamp));
  }
  return call.result(maps.y);
}

inline std::tuple<Tensor, Tensor, Tensor> modulated_epilogue_backward(
    const Tensor& dy_, const Tensor& y, const OptionalTensor& d, const OptionalTensor& noise_, int64_t noise_batch, const std::string& act,
    double alpha, double gain, const std::optional<double>& clamp) {
  const Call call("modulated_epilogue_backward", dy_);
  const Tensor dy = call.map(dy_), dz = call.empty_map(dy);
  const Extent e(dy);
  const Tensor sums = call.empty_sums({3, e.n, e.c});
  const Tensor dn = noise_batch > 0 ? call.empty_row({noise_batch, 1, e.h, e.w}) : call.nothing();
  if (dy.numel() == 0) {
    zero(sums, dn);
  } else {
    const OptionalTensor noise = d ? call.row(noise_) : std::nullopt;  // enters the gradient of d alone
    launchers::modulated_epilogue_backward(
        dy, call.map(y), call.factor(d), noise, dz, sums, noise_batch > 0 ? OptionalTensor(dn) : std::nullopt, e.n, e.c, e.hw(),
        call.channels_last(), batch(noise), noise_batch, call.act(act), alpha, gain, call.limit(clamp));
  }
  return {call.result(dz), sums, call.row_result(dn)};
}

inline std::tuple<Tensor, Tensor, Tensor, Tensor> modulated_epilogue_double_backward(
    const Tensor& gdz, const OptionalTensor& gsums, const OptionalTensor& gdn_, const Tensor& dy_, const Tensor& y, const OptionalTensor& d,
    const OptionalTensor& noise_, const std::string& act, double alpha, double gain, const std::optional<double>& clamp) {
  const Call call("modulated_epilogue_double_backward", dy_);
  const Tensor dy = call.map(dy_), d_dy = call.empty_map(dy);
  const Extent e(dy);
  const bool through_noise = d && gsums && noise_;
  const Tensor d_y = gsums ? call.empty_map(dy) : call.nothing();
  const Tensor d_d = d ? call.empty_sums({e.n, e.c}) : call.empty_sums({0});
  const Tensor d_noise = through_noise ? call.empty_row({noise_->size(0), 1, e.h, e.w}) : call.nothing();
  if (dy.numel() == 0) {
    zero(d_d, d_noise);
  } else {
    const OptionalTensor gdn = call.row(gdn_), noise = through_noise ? call.row(noise_) : std::nullopt;
    const auto wanted = [](bool is, const Tensor& t) { return is ? OptionalTensor(t) : std::nullopt; };
    launchers::modulated_epilogue_double_backward(
        call.map(gdz), call.factor(gsums), gdn, dy, call.map(y), call.factor(d), noise, d_dy, wanted(gsums.has_value(), d_y),
        wanted(d.has_value(), d_d), wanted(through_noise, d_noise), e.n, e.c, e.hw(), call.channels_last(), batch(gdn), batch(noise),
        call.act(act), alpha, gain, call.limit(clamp));
  }
  return {call.result(d_dy), gsums ? call.result(d_y, y) : d_y, d_d, call.row_result(d_noise)};
}

}  // namespace facegan::operators

#define FACEGAN_OPERATOR(name) library.impl(#name, TORCH_BOX(&facegan::operators::name))

/// Registers the operators for a dispatch key.
#define FACEGAN_OPERATORS(key)                            \
  STABLE_TORCH_LIBRARY_IMPL(facegan, key, library) {      \
    FACEGAN_OPERATOR(bias_act);                           \
    FACEGAN_OPERATOR(bias_act_backward);                  \
    FACEGAN_OPERATOR(bias_act_double_backward);           \
    FACEGAN_OPERATOR(upfirdn2d);                          \
    FACEGAN_OPERATOR(adain);                              \
    FACEGAN_OPERATOR(adain_backward);                     \
    FACEGAN_OPERATOR(adain_affine);                       \
    FACEGAN_OPERATOR(adain_affine_backward);              \
    FACEGAN_OPERATOR(modulate);                           \
    FACEGAN_OPERATOR(modulate_backward);                  \
    FACEGAN_OPERATOR(modulated_epilogue);                 \
    FACEGAN_OPERATOR(regional_epilogue);                  \
    FACEGAN_OPERATOR(modulated_epilogue_backward);        \
    FACEGAN_OPERATOR(modulated_epilogue_double_backward); \
  }
