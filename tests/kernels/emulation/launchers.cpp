// The launchers of csrc/launchers.h as operators, so that tests can choose where in memory each argument and result lies.
#include "launchers.h"

#define FACEGAN_ACTIVATION "int act, float alpha, float gain, float clamp"
#define FACEGAN_LAUNCHER(name) library.impl(#name, TORCH_BOX(&facegan::launchers::name))

STABLE_TORCH_LIBRARY_FRAGMENT(facegan_emulated_launchers, library) {
  // The bias runs along c of [outer, c, inner].
  library.def("bias_act(Tensor x, Tensor? b, Tensor(a!) y, int outer, int c, int inner, " FACEGAN_ACTIVATION ") -> ()");
  library.def(
      "bias_act_backward(Tensor dy, Tensor y, Tensor(a!) dx, Tensor(b!)? db, int outer, int c, int inner, " FACEGAN_ACTIVATION ") -> ()");
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
      "int oh, int ow, bool channels_last, int noise_batch, int kh, int kw, int pad_top, int pad_left, " FACEGAN_ACTIVATION ") -> ()");
  // d [n, 1 + regions, c] with masks [mask_batch, regions, oh, ow]; weight [weight_batch, 1, oh, ow].
  library.def(
      "regional_epilogue(Tensor x, Tensor? d, Tensor? masks, Tensor? noise, Tensor? b, Tensor? f, Tensor? onto, Tensor? weight, "
      "Tensor(a!) y, int n, int c, int h, int w, int oh, int ow, bool channels_last, int regions, int mask_batch, int noise_batch, "
      "int weight_batch, int kh, int kw, int pad_top, int pad_left, " FACEGAN_ACTIVATION ") -> ()");
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

STABLE_TORCH_LIBRARY_IMPL(facegan_emulated_launchers, CPU, library) {
  FACEGAN_LAUNCHER(bias_act);
  FACEGAN_LAUNCHER(bias_act_backward);
  FACEGAN_LAUNCHER(bias_act_double_backward);
  FACEGAN_LAUNCHER(upfirdn2d);
  FACEGAN_LAUNCHER(adain);
  FACEGAN_LAUNCHER(adain_backward);
  FACEGAN_LAUNCHER(adain_affine);
  FACEGAN_LAUNCHER(adain_affine_backward);
  FACEGAN_LAUNCHER(modulate);
  FACEGAN_LAUNCHER(modulate_backward);
  FACEGAN_LAUNCHER(modulated_epilogue);
  FACEGAN_LAUNCHER(regional_epilogue);
  FACEGAN_LAUNCHER(modulated_epilogue_backward);
  FACEGAN_LAUNCHER(modulated_epilogue_double_backward);
}
