// What the scheduler (emulation.cpp) and the guard of memory (memory.cpp) need of each other.
#pragma once

#include <cstddef>
#include <string>

#include "cuda_runtime.h"

namespace emulation {

/// The error of a launch with its message.
cudaError_t failed(const std::string& message);

/// Ends the kernel, whose threads are not resumed; the launch returns an error with this message. Without a kernel the process ends.
[[noreturn]] void fault(const std::string& what);

/// The memory of the launch and of the running thread: all that a kernel may touch besides the operator's tensors. Accesses are
/// checked from enter_thread to leave_thread, which is called before anything of the standard library is: its templates may be linked
/// in the form that is compiled with checks.
void enter_kernel(const void* parameters, size_t parameter_bytes, size_t shared_bytes);
void enter_thread(const void* stack, size_t bytes);
void leave_thread();

}  // namespace emulation
