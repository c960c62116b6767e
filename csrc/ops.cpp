// The schemas of the compiled operators. csrc/cpu and csrc/cuda implement them, each in a library of its own;
// kernels/facegan_kernels/native/<op>.py calls them.
//
// Conventions, for every operator:
// * The caller allocates the results, the arguments marked (a!), and passes plain sizes. Nothing is checked again here.
// * Every tensor is dense. Maps are [N, C, H, W] in memory, or [N, H, W, C] with `channels_last`; hw = H * W. All maps of one
//   call have the same format and dtype T: float32, float64, bfloat16 and, on CUDA, float16.
// * W is the wide type: float64 for T = float64, else float32. It is the type of accumulators, of d, s, scale, shift, sums
//   [.., N, C], of the AdaIN mask [N, 1, H, W] and of FIR filters; b [C], db [C] and noise [1 or N, 1, H, W] have T.
// * act: 0 linear, 1 relu, 2 lrelu, 3 tanh, 4 sigmoid (enum class Act of formulas.h); clamp 0 means none.
// * An absent optional result is not wanted; a noise's batch is 1 or n, 0 where the noise is absent.

#include <torch/csrc/stable/library.h>

#define FACEGAN_ACTIVATION "int act, float alpha, float gain, float clamp"

STABLE_TORCH_LIBRARY(facegan_native, library) {
  // The bias runs along c of [outer, c, inner].
  library.def("bias_act(Tensor x, Tensor? b, Tensor(a!) y, int outer, int c, int inner, " FACEGAN_ACTIVATION ") -> ()");
  library.def(
      "bias_act_backward(Tensor dy, Tensor y, Tensor(a!) dx, Tensor(b!)? db, int outer, int c, int inner, " FACEGAN_ACTIVATION
      ") -> ()");
  // d_y is wanted for tanh and sigmoid alone.
  library.def(
      "bias_act_double_backward(Tensor ddx, Tensor? ddb, Tensor dy, Tensor y, Tensor(a!) d_dy, Tensor(b!)? d_y, int outer, "
      "int c, int inner, " FACEGAN_ACTIVATION ") -> ()");

  // f is [kh, kw], or [kh] along both axes when kw is 0; the padding below and to the right follows from oh x ow.
  library.def(
      "upfirdn2d(Tensor x, Tensor f, Tensor(a!) y, int n, int c, int h, int w, int oh, int ow, bool channels_last, int kh, "
      "int kw, int up_y, int up_x, int down_y, int down_x, int pad_top, int pad_left, bool flip_filter, float gain) -> ()");

  library.def(
      "adain(Tensor content, Tensor style, Tensor? mask, Tensor(a!) y, int n, int c, int hw, int style_hw, "
      "bool channels_last, float alpha, float eps) -> ()");
  library.def(
      "adain_backward(Tensor dy, Tensor content, Tensor style, Tensor? mask, Tensor(a!) d_content, Tensor(b!) d_style, int n, "
      "int c, int hw, int style_hw, bool channels_last, float alpha, float eps) -> ()");
  library.def(
      "adain_affine(Tensor x, Tensor scale, Tensor shift, Tensor(a!) y, int n, int c, int hw, bool channels_last, float eps) "
      "-> ()");
  library.def(
      "adain_affine_backward(Tensor dy, Tensor x, Tensor scale, Tensor(a!) dx, Tensor(b!) d_scale, Tensor(c!) d_shift, int n, "
      "int c, int hw, bool channels_last, float eps) -> ()");

  library.def("modulate(Tensor x, Tensor s, Tensor(a!) y, int n, int c, int hw, bool channels_last) -> ()");
  library.def(
      "modulate_backward(Tensor g, Tensor x, Tensor s, Tensor(a!) dx, Tensor(b!) ds, int n, int c, int hw, "
      "bool channels_last) -> ()");
  // x is h x w, y and noise are oh x ow; f as in upfirdn2d, not flipped, absent for none (then oh x ow is h x w, kh and kw 0).
  library.def(
      "modulated_epilogue(Tensor x, Tensor? d, Tensor? noise, Tensor? b, Tensor? f, Tensor(a!) y, int n, int c, int h, int w, "
      "int oh, int ow, bool channels_last, int noise_batch, int kh, int kw, int pad_top, int pad_left, " FACEGAN_ACTIVATION
      ") -> ()");
  // sums [3, n, c]; dn [dn_batch, 1, H, W] in T.
  library.def(
      "modulated_epilogue_backward(Tensor dy, Tensor y, Tensor? d, Tensor? noise, Tensor(a!) dz, Tensor(b!) sums, "
      "Tensor(c!)? dn, int n, int c, int hw, bool channels_last, int noise_batch, int dn_batch, " FACEGAN_ACTIVATION ") -> ()");
  // gsums [3, n, c] in W; noise is passed only with d, d_noise (of noise_batch) only with noise and gsums.
  library.def(
      "modulated_epilogue_double_backward(Tensor gdz, Tensor? gsums, Tensor? gdn, Tensor dy, Tensor y, Tensor? d, "
      "Tensor? noise, Tensor(a!) d_dy, Tensor(b!)? d_y, Tensor(c!)? d_d, Tensor(d!)? d_noise, int n, int c, int hw, "
      "bool channels_last, int gdn_batch, int noise_batch, " FACEGAN_ACTIVATION ") -> ()");
}
