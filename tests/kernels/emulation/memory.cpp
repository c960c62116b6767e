// Which memory a kernel may touch: the tensors whose pointers its operator asked for, and what the launch itself needs.
//
// The kernels are compiled with -fsanitize=kernel-address, which calls a function before every access to memory and leaves to us
// what that does, and with the sanitizers of alignment and of integer division, whose handlers are here too. A null or foreign
// pointer is thus reported before it is followed, by the thread that does so.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cuda_runtime.h"
#include "emulation.h"

namespace facegan {
extern unsigned char shared_memory[];
}

namespace emulation {
namespace {

struct Range {
  uintptr_t begin, end;
  bool writable;
};

/// A list without the standard library's templates, of which the linker may take the copy that is compiled with checks.
struct Ranges {
  Range items[64];
  int count = 0;

  void add(const void* p, size_t bytes, bool writable) {
    if (count == 64) std::abort();
    const auto begin = reinterpret_cast<uintptr_t>(p);
    items[count++] = {begin, begin + bytes, writable};
  }
  const Range* begin() const { return items; }
  const Range* end() const { return items + count; }
};

Ranges tensors;  // of the operator that runs
Ranges launch;   // parameters, shared memory, the thread's and the block's index
uintptr_t stack, stack_bytes;
bool in_thread = false;

void allow_tensor(AtenTensorHandle tensor, const void* p, bool writable) {
  int64_t count = 0;
  int32_t dtype = 0;
  aoti_torch_get_numel(tensor, &count);
  aoti_torch_get_dtype(tensor, &dtype);
  const size_t element = aoti_torch_dtype_element_size(dtype);
  if (count > 0) tensors.add(p, static_cast<size_t>(count) * element, writable);
}

/// Reads go by whole accesses of 16 bytes, aligned, of which one element is enough to lie in a tensor: CUDA allocates in multiples.
bool allows(const Range& r, uintptr_t at, uintptr_t end, bool write) {
  if (write) return r.writable && at >= r.begin && end <= r.end;
  return at >= (r.begin & ~uintptr_t(15)) && end <= ((r.end + 15) & ~uintptr_t(15));
}

std::string place(uintptr_t at) {
  const Range* nearest = nullptr;
  for (const Range& r : tensors)
    if (at >= r.begin && (nearest == nullptr || r.begin > nearest->begin)) nearest = &r;
  if (at < 4096) return "through a null pointer";
  if (nearest == nullptr) return "before all tensors of the call";
  const std::string size = std::to_string(nearest->end - nearest->begin) + " bytes";
  if (at < nearest->end) return (nearest->writable ? "at the edge of a tensor of " : "in an argument that is read only, of ") + size;
  return std::to_string(at - nearest->end) + " bytes after a tensor of " + size;
}

void refuse(uintptr_t at, size_t bytes, bool write) {
  leave_thread();
  fault(std::string(write ? "writes " : "reads ") + std::to_string(bytes) + " bytes " + place(at) + ", in none of what it was given");
}

inline void check(uintptr_t at, size_t bytes, bool write) {
  if (!in_thread || at - stack < stack_bytes) return;
  for (const Range& r : tensors)
    if (allows(r, at, at + bytes, write)) return;
  for (const Range& r : launch)
    if (at >= r.begin && at + bytes <= r.end && (r.writable || !write)) return;
  refuse(at, bytes, write);
}

}  // namespace

void enter_kernel(const void* parameters, size_t parameter_bytes, size_t shared_bytes) {
  launch.count = 0;
  launch.add(facegan::shared_memory, shared_bytes, true);
  launch.add(parameters, parameter_bytes, false);
  for (const dim3* index : {&threadIdx, &blockIdx, &blockDim, &gridDim}) launch.add(index, sizeof(dim3), false);
}

void enter_thread(const void* memory, size_t bytes) {
  stack = reinterpret_cast<uintptr_t>(memory), stack_bytes = bytes;
  in_thread = true;
}

void leave_thread() { in_thread = false; }

}  // namespace emulation

using namespace emulation;

// torch's functions by which the launchers come to their pointers. A launcher holds a device guard for as long as its operator runs.
extern "C" {
AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  *guard = reinterpret_cast<DeviceGuardHandle>(&tensors);  // any handle: null would not be deleted
  return 0;
}
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return tensors.count = 0; }
AOTITorchError torch_get_mutable_data_ptr(AtenTensorHandle tensor, void** p) {
  const AOTITorchError error = aoti_torch_get_data_ptr(tensor, p);
  return allow_tensor(tensor, *p, true), error;
}
AOTITorchError torch_get_const_data_ptr(AtenTensorHandle tensor, const void** p) {
  void* pointer = nullptr;
  const AOTITorchError error = aoti_torch_get_data_ptr(tensor, &pointer);
  return allow_tensor(tensor, *p = pointer, false), error;
}
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
  const auto at = reinterpret_cast<uintptr_t>(p);
  for (const Range& r : tensors)
    if (allows(r, at, at + bytes, true)) return std::memset(p, value, bytes), cudaSuccess;
  return emulation::failed("emulation: zeros are written " + place(at));
}

// What the compiler calls.
#define FACEGAN_ACCESS(bytes)                                                  \
  void __asan_load##bytes##_noabort(uintptr_t at) { check(at, bytes, false); } \
  void __asan_store##bytes##_noabort(uintptr_t at) { check(at, bytes, true); }

extern "C" {
FACEGAN_ACCESS(1)
FACEGAN_ACCESS(2)
FACEGAN_ACCESS(4)
FACEGAN_ACCESS(8)
FACEGAN_ACCESS(16)
void __asan_loadN_noabort(uintptr_t at, size_t bytes) { check(at, bytes, false); }
void __asan_storeN_noabort(uintptr_t at, size_t bytes) { check(at, bytes, true); }
void __asan_handle_no_return() {}
void __asan_before_dynamic_init(const char*) {}
void __asan_after_dynamic_init() {}

/// Data that the compiler passes about a place in the source; more follows.
struct Source {
  const char* file;
  uint32_t line, column;
};
static std::string name(const Source* source) { return std::string(source->file) + ":" + std::to_string(source->line); }
void __ubsan_handle_type_mismatch_v1(const Source* source, uintptr_t at) {
  leave_thread();
  fault("accesses address " + std::to_string(at) + ", which is not aligned, in " + name(source));
}
void __ubsan_handle_divrem_overflow(const Source* source, uintptr_t, uintptr_t) {
  leave_thread();
  fault("divides an integer by zero in " + name(source));
}
}
