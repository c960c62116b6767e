// A kernel that does what a kernel must not, in one way of several, to show that the emulation tells. It is built for nothing else.
#include "cuda/tiles.cuh"

namespace facegan {
namespace {

enum class Fault : int64_t {
  none,
  null_read,
  null_write,
  read_past,
  write_past,
  write_before,
  constant,
  foreign,
  shared,
  alignment,
  shuffle,
  division
};

/// x and y [32], `foreign` a tensor that the operator was not given; `zero` is 0, and what it takes a null pointer to be.
__global__ void faulty(Fault fault, const float* x, float* y, float* null, float* foreign, int zero) {
  const int i = threadIdx.x;
  float* shared = reinterpret_cast<float*>(shared_memory);
  switch (fault) {
    case Fault::none: shared[i] = x[i], __syncthreads(), y[i] = shared[31 - i]; break;
    case Fault::null_read: y[i] = null[i]; break;
    case Fault::null_write: null[i] = x[i]; break;
    case Fault::read_past: y[i] = x[i + 4]; break;
    case Fault::write_past: y[i + 1] = x[i]; break;
    case Fault::write_before: y[i - 1] = x[i]; break;
    case Fault::constant: const_cast<float*>(x)[i] = 1; break;
    case Fault::foreign: foreign[i] = x[i]; break;
    case Fault::shared: shared[i + 1] = x[i]; break;
    case Fault::alignment: y[i] = load<4>(x + i % 4).words[0].x; break;
    case Fault::shuffle: y[i] = i < 16 ? __shfl_xor_sync(0xffffffffu, x[i], 1) : x[i]; break;
    case Fault::division: y[i] = static_cast<float>(i / zero); break;
  }
}

void commit(const Tensor& x, const Tensor& y, int64_t fault, int64_t foreign) {
  const Launcher launch("fault", x);
  launch(
      faulty, 2, 32, 32 * sizeof(float), static_cast<Fault>(fault), input<float>(x), output<float>(y), static_cast<float*>(nullptr),
      reinterpret_cast<float*>(foreign), 0);
}

}  // namespace
}  // namespace facegan

STABLE_TORCH_LIBRARY_FRAGMENT(facegan_emulated_launchers, library) {
  library.def("fault(Tensor x, Tensor(a!) y, int fault, int foreign) -> ()");
}
STABLE_TORCH_LIBRARY_IMPL(facegan_emulated_launchers, FACEGAN_DISPATCH_KEY, m) { m.impl("fault", TORCH_BOX(&facegan::commit)); }
