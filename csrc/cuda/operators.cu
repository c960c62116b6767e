// The operators on CUDA tensors.
#include "operators.h"

#ifndef FACEGAN_DISPATCH_KEY
#define FACEGAN_DISPATCH_KEY CUDA  // the emulation in tests/kernels registers the same code for CPU tensors
#endif

FACEGAN_OPERATORS(FACEGAN_DISPATCH_KEY)
