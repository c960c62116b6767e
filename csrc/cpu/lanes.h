// Eight numbers in a register.
#pragma once

#include <cstring>

#include "common.h"

namespace facegan::cpu {

constexpr int64_t kLanes = 8;

#if defined(__GNUC__)
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
#else
struct Lanes {
  float of[kLanes];
  Lanes& operator+=(const Lanes& b) {
    for (int k = 0; k < kLanes; ++k) of[k] += b.of[k];
    return *this;
  }
  friend Lanes operator+(Lanes a, const Lanes& b) { return a += b; }
  friend Lanes operator-(Lanes a, const Lanes& b) {
    for (int k = 0; k < kLanes; ++k) a.of[k] -= b.of[k];
    return a;
  }
  friend Lanes operator*(float a, const Lanes& b) {
    Lanes c;
    for (int k = 0; k < kLanes; ++k) c.of[k] = a * b.of[k];
    return c;
  }
};
#endif

FACEGAN_INLINE inline Lanes load(const float* p) {
  Lanes lanes;
  std::memcpy(&lanes, p, sizeof lanes);
  return lanes;
}

FACEGAN_INLINE inline void store(float* p, const Lanes& lanes) { std::memcpy(p, &lanes, sizeof lanes); }

}  // namespace facegan::cpu
