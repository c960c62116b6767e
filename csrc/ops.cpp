// The schemas of the compiled operators, those of facegan/ops (which has the same for its other backends, and a test that they
// agree): pure functions with PyTorch's own conventions for shapes, dtypes and memory formats. csrc/operators.h implements them.

#include <torch/csrc/stable/library.h>

#define FACEGAN_ACTIVATION "str act, float alpha, float gain, float? clamp"

STABLE_TORCH_LIBRARY(facegan, library) {
  library.def("bias_act(Tensor x, Tensor? b, int dim, " FACEGAN_ACTIVATION ") -> Tensor");
  library.def("bias_act_backward(Tensor dy, Tensor y, int dim, bool bias, " FACEGAN_ACTIVATION ") -> (Tensor, Tensor)");
  library.def(
      "bias_act_double_backward(Tensor ddx, Tensor? ddb, Tensor dy, Tensor y, int dim, " FACEGAN_ACTIVATION ") -> (Tensor, Tensor)");

  library.def("upfirdn2d(Tensor x, Tensor f, int[2] up, int[2] down, SymInt[4] padding, bool flip_filter, float gain) -> Tensor");

  library.def("adain(Tensor content, Tensor style, float alpha, Tensor? mask, float eps) -> Tensor");
  library.def("adain_backward(Tensor dy, Tensor content, Tensor style, float alpha, Tensor? mask, float eps) -> (Tensor, Tensor)");
  library.def("adain_affine(Tensor x, Tensor scale, Tensor shift, float eps) -> Tensor");
  library.def("adain_affine_backward(Tensor dy, Tensor x, Tensor scale, float eps) -> (Tensor, Tensor, Tensor)");

  library.def("modulate(Tensor x, Tensor s) -> Tensor");
  library.def("modulate_backward(Tensor g, Tensor x, Tensor s) -> (Tensor, Tensor)");
  library.def(
      "modulated_epilogue(Tensor x, Tensor? d, Tensor? noise, Tensor? b, Tensor? f, SymInt[4] padding, " FACEGAN_ACTIVATION ") -> Tensor");
  library.def(
      "regional_epilogue(Tensor x, Tensor? d, Tensor? masks, Tensor? noise, Tensor? b, Tensor? f, SymInt[4] padding, Tensor? onto, "
      "Tensor? weight, " FACEGAN_ACTIVATION ") -> Tensor");
  library.def(
      "modulated_epilogue_backward(Tensor dy, Tensor y, Tensor? d, Tensor? noise, int noise_batch, " FACEGAN_ACTIVATION
      ") -> (Tensor, Tensor, Tensor)");
  library.def(
      "modulated_epilogue_double_backward(Tensor gdz, Tensor? gsums, Tensor? gdn, Tensor dy, Tensor y, Tensor? d, Tensor? "
      "noise, " FACEGAN_ACTIVATION ") -> (Tensor, Tensor, Tensor, Tensor)");

  // On the CPU alone (csrc/cpu/conv2d_weight_grad.cpp): of a convolution of x [N, C, H, W] whose result has the gradient dy [N, O, OH, OW], both
  // float32 in channels_last, the weight's gradient [O, kh, kw, C].
  library.def("conv2d_weight_grad(Tensor dy, Tensor x, int kh, int kw, int stride, int padding) -> Tensor");

  // Parts of a layer by Winograd's minimal filtering (csrc/cpu/winograd.cpp, on the CPU alone), around a product that the library
  // does: x [n, h, w, c] float32 times s [n, c] -> v [tiles, 36, c], of the 4 x 4 tiles first .. first + tiles - 1, ...
  library.def("winograd_input(Tensor x, Tensor s, Tensor(a!) v, int h, int w, int c, int first, int tiles) -> ()");
  // ... and m [tiles, 36, c] -> y [n, h, w, c] through the epilogue; noise_batch is 1 or n, 0 without noise.
  library.def(
      "winograd_output(Tensor m, Tensor? d, Tensor? noise, Tensor? b, Tensor(a!) y, int h, int w, int c, int first, int tiles, "
      "int noise_batch, " FACEGAN_ACTIVATION ") -> ()");
  // The whole of it: x [N, C, H, W] float32 in channels_last,
  // times s [N, C], convolved by a weight [O, C, 3, 3] in any strides, and the epilogue; s, d, noise and b are float32 in rows.
  library.def(
      "winograd_conv2d(Tensor x, Tensor w, Tensor? s, Tensor? d, Tensor? noise, Tensor? b, bool flip_weight, " FACEGAN_ACTIVATION
      ") -> Tensor");
}
