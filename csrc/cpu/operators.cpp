// The operators on CPU tensors.

#include "../operators.h"

FACEGAN_OPERATORS(CPU)
