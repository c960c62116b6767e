// The launchers: what csrc/cpu and csrc/cuda implement, each in its library, below the operators of operators.h.
//
// * The caller allocates the results, the last tensors of a list, and passes plain sizes. Nothing is checked again here.
// * Every tensor is dense and has elements. Maps are [N, C, H, W] in memory, or [N, H, W, C] with `channels_last`; hw = H * W. All
//   maps of one call have the same format and dtype T: float32, float64, bfloat16 and, on CUDA, float16.
// * W is the accumulator type: float64 for T = float64, else float32. It is the type of accumulators, of d, s, scale, shift, sums
//   [.., N, C], of the AdaIN mask [N, 1, H, W] and of FIR filters; b [C], db [C] and noise [1 or N, 1, H, W] have T.
// * An absent optional result is not wanted; a noise's batch is 1 or n, 0 where the noise is absent.
#pragma once

#include <cstdint>
#include <optional>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

namespace facegan {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

namespace launchers {

// act: as enum class Act of formulas.h; clamp: negative means none. The bias runs along c of [outer, c, inner].
void bias_act(
    const Tensor& x, const OptionalTensor& b, const Tensor& y, int64_t outer, int64_t c, int64_t inner, int64_t act, double alpha,
    double gain, double clamp);
void bias_act_backward(
    const Tensor& dy, const Tensor& y, const Tensor& dx, const OptionalTensor& db, int64_t outer, int64_t c, int64_t inner, int64_t act,
    double alpha, double gain, double clamp);
// d_y is wanted for tanh and sigmoid alone.
void bias_act_double_backward(
    const Tensor& ddx, const OptionalTensor& ddb, const Tensor& dy, const Tensor& y, const Tensor& d_dy, const OptionalTensor& d_y,
    int64_t outer, int64_t c, int64_t inner, int64_t act, double alpha, double gain, double clamp);

// f is [kh, kw], or [kh] along both axes when kw is 0; the padding below and to the right follows from oh x ow.
void upfirdn2d(
    const Tensor& x, const Tensor& f, const Tensor& y, int64_t n, int64_t c, int64_t h, int64_t w, int64_t oh, int64_t ow,
    bool channels_last, int64_t kh, int64_t kw, int64_t up_y, int64_t up_x, int64_t down_y, int64_t down_x, int64_t pad_top,
    int64_t pad_left, bool flip_filter, double gain);

void adain(
    const Tensor& content, const Tensor& style, const OptionalTensor& mask, const Tensor& y, int64_t n, int64_t c, int64_t hw,
    int64_t style_hw, bool channels_last, double alpha, double eps);
void adain_backward(
    const Tensor& dy, const Tensor& content, const Tensor& style, const OptionalTensor& mask, const Tensor& d_content,
    const Tensor& d_style, int64_t n, int64_t c, int64_t hw, int64_t style_hw, bool channels_last, double alpha, double eps);
void adain_affine(
    const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& y, int64_t n, int64_t c, int64_t hw, bool channels_last,
    double eps);
void adain_affine_backward(
    const Tensor& dy, const Tensor& x, const Tensor& scale, const Tensor& dx, const Tensor& d_scale, const Tensor& d_shift, int64_t n,
    int64_t c, int64_t hw, bool channels_last, double eps);

void modulate(const Tensor& x, const Tensor& s, const Tensor& y, int64_t n, int64_t c, int64_t hw, bool channels_last);
void modulate_backward(
    const Tensor& g, const Tensor& x, const Tensor& s, const Tensor& dx, const Tensor& ds, int64_t n, int64_t c, int64_t hw,
    bool channels_last);
// x is h x w, y and noise are oh x ow; f as in upfirdn2d, not flipped, absent for none (then oh x ow is h x w, kh and kw 0).
void modulated_epilogue(
    const Tensor& x, const OptionalTensor& d, const OptionalTensor& noise, const OptionalTensor& b, const OptionalTensor& f,
    const Tensor& y, int64_t n, int64_t c, int64_t h, int64_t w, int64_t oh, int64_t ow, bool channels_last, int64_t noise_batch,
    int64_t kh, int64_t kw, int64_t pad_top, int64_t pad_left, int64_t act, double alpha, double gain, double clamp);
// The same where d is [n, 1 + regions, c], a row for each of the masks [mask_batch, regions, oh, ow] in W and the first where none is;
// times weight [weight_batch, 1, oh, ow] in W, added to `onto`, which lies as y does.
void regional_epilogue(
    const Tensor& x, const OptionalTensor& d, const OptionalTensor& masks, const OptionalTensor& noise, const OptionalTensor& b,
    const OptionalTensor& f, const OptionalTensor& onto, const OptionalTensor& weight, const Tensor& y, int64_t n, int64_t c, int64_t h,
    int64_t w, int64_t oh, int64_t ow, bool channels_last, int64_t regions, int64_t mask_batch, int64_t noise_batch, int64_t weight_batch,
    int64_t kh, int64_t kw, int64_t pad_top, int64_t pad_left, int64_t act, double alpha, double gain, double clamp);
// sums [3, n, c]; dn [dn_batch, 1, H, W] in T.
void modulated_epilogue_backward(
    const Tensor& dy, const Tensor& y, const OptionalTensor& d, const OptionalTensor& noise, const Tensor& dz, const Tensor& sums,
    const OptionalTensor& dn, int64_t n, int64_t c, int64_t hw, bool channels_last, int64_t noise_batch, int64_t dn_batch, int64_t act,
    double alpha, double gain, double clamp);
// gsums [3, n, c] in W; noise is passed only with d, d_noise (of noise_batch) only with noise and gsums.
void modulated_epilogue_double_backward(
    const Tensor& gdz, const OptionalTensor& gsums, const OptionalTensor& gdn, const Tensor& dy, const Tensor& y, const OptionalTensor& d,
    const OptionalTensor& noise, const Tensor& d_dy, const OptionalTensor& d_y, const OptionalTensor& d_d, const OptionalTensor& d_noise,
    int64_t n, int64_t c, int64_t hw, bool channels_last, int64_t gdn_batch, int64_t noise_batch, int64_t act, double alpha, double gain,
    double clamp);

}  // namespace launchers
}  // namespace facegan
