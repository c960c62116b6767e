// Mean and sigma of every channel of a map, and planes that fit in the registers of one block.
//
// sigma = sqrt(biased variance + eps), weighted by a mask where there is one. In registers the variance is taken about the mean.
// Streamed maps are read once: sums of (x - k) and (x - k)^2 about a sampled mean k, which keeps the cancellation small.
#pragma once

#include "cuda/tiles.cuh"

namespace facegan {

/// Per channel [n c] in memory: the statistics, and what the pixel weights sum to.
template <typename W>
struct Statistics {
  const W *mean, *sigma, *mass;
};

// --- Planes in registers ------------------------------------------------------------------------------------------------

/// How planes lie over a block: `team` threads share the pixels of one channel. NCHW has `slots` planes in a block, channels_last
/// `lanes` vectors of channels.
struct Teams {
  int64_t n, c, hw;
  int team_log2 = 0, lanes_log2 = 0, slots_log2 = 0;

  int threads() const { return 1 << (team_log2 + lanes_log2 + slots_log2); }
  int64_t blocks(int vec, bool last) const {
    return last ? n * ceil_div(c / vec, int64_t(1) << lanes_log2) : ceil_div(n * c, int64_t(1) << slots_log2);
  }
};

constexpr int kTeamThreads = 512;  // at most, in a block: each may then have 128 registers

/// Teams for planes of at most `hw` pixels of which a thread can hold `held` accesses; nothing where they don't fit.
inline std::optional<Teams> teams(int64_t n, int64_t c, int64_t hw, int64_t largest_hw, int vec, bool last, int held) {
  Teams t{n, c, hw};
  if (last) t.lanes_log2 = c / vec > 1 ? 1 : 0;
  const int64_t accesses = last ? largest_hw : ceil_div(largest_hw, vec), most = int64_t(kTeamThreads) >> t.lanes_log2;
  if (accesses > most * held) return std::nullopt;
  while ((int64_t(1) << t.team_log2) < most && (int64_t(1) << t.team_log2) * (held / 2) < accesses) ++t.team_log2;
  while (last && t.threads() < 32) ++t.team_log2;
  // Several planes share a block only where each is one warp's: a sum over a larger team is over every warp of the block.
  while (!last && t.team_log2 <= 5 && t.threads() < 128) ++t.slots_log2;
  return t;
}

/// A thread's place: its channels, and its share of the pixels.
template <typename T, int VEC, bool LAST>
struct Member {
  using W = acc_t<T>;
  using Channel = Values<W, LAST ? VEC : 1>;
  using Pixel = Values<W, LAST ? 1 : VEC>;
  int64_t n, c, hw;
  int64_t first, step, stride;  // pixels: of the first access, from one to the next; elements from one pixel to the next
  bool live;
  int lanes, span;  // threads in between, and from end to end of, what is summed

  __device__ explicit Member(const Teams& t)
      : hw(t.hw), stride(LAST ? t.c : 1), lanes(1 << t.lanes_log2), span(1 << (t.team_log2 + t.lanes_log2)) {
    const int team = 1 << t.team_log2;
    if constexpr (LAST) {
      const uint32_t chunks = static_cast<uint32_t>((t.c / VEC + lanes - 1) / lanes);
      n = blockIdx.x / chunks;
      c = (int64_t(blockIdx.x % chunks) * lanes + (threadIdx.x & (lanes - 1))) * VEC;
      first = threadIdx.x >> t.lanes_log2, step = team;
      live = c < t.c;
    } else {
      const uint32_t plane = (blockIdx.x << t.slots_log2) + (threadIdx.x >> t.team_log2);
      n = plane / uint32_t(t.c), c = plane - n * t.c;
      first = (threadIdx.x & (team - 1)) * VEC, step = int64_t(team) * VEC;
      live = n < t.n;
    }
  }

  __device__ bool has(int k, int64_t pixels) const { return live && first + k * step < pixels; }
  __device__ int64_t pixel(int k) const { return first + k * step; }
  __device__ int64_t offset(int k, int64_t pixels, int64_t channels) const {
    return LAST ? (n * pixels + pixel(k)) * channels + c : (n * channels + c) * pixels + pixel(k);
  }

  /// The sums over the team, for all its threads.
  template <int N>
  __device__ Values<W, N> sum(Values<W, N> values) const {
    for (int stride = lanes; stride < span && stride < 32; stride *= 2) {
#pragma unroll
      for (int j = 0; j < N; ++j) values.v[j] += __shfl_xor_sync(0xffffffffu, values.v[j], stride);
    }
    if (span <= 32) return values;
    W* shared = reinterpret_cast<W*>(shared_memory);
    const int lane = threadIdx.x & (lanes - 1), width = lanes * N;
    if (int(threadIdx.x & 31) < lanes) {
#pragma unroll
      for (int j = 0; j < N; ++j) shared[threadIdx.x / 32 * width + lane * N + j] = values.v[j];
    }
    __syncthreads();
    values = {};
#pragma unroll 1
    for (int warp = 0; warp < int(blockDim.x / 32); ++warp) {
#pragma unroll
      for (int j = 0; j < N; ++j) values.v[j] += shared[warp * width + lane * N + j];
    }
    __syncthreads();
    return values;
  }
};

template <typename W>
constexpr size_t kTeamShared = kTeamThreads / 32 * 2 * 8 * sizeof(W);  // warps, lanes, values

/// The accesses of one thread: HELD at most of `pixels` pixels.
template <typename T, int VEC, bool LAST, int HELD>
struct Held {
  using M = Member<T, VEC, LAST>;
  using W = typename M::W;
  Pack<T, VEC> packs[HELD];

  __device__ Held(const M& member, const T* x, int64_t pixels, int64_t channels) {
#pragma unroll
    for (int k = 0; k < HELD; ++k)
      if (member.has(k, pixels)) packs[k] = load<VEC>(x + member.offset(k, pixels, channels));
  }

  /// f(k, values) for every access.
  template <typename F>
  __device__ void each(const M& member, int64_t pixels, const F& f) const {
#pragma unroll
    for (int k = 0; k < HELD; ++k)
      if (member.has(k, pixels)) f(k, widen(packs[k]));
  }

  /// Mean and sigma; `inverse_mass` is one over the sum of the pixels' weights.
  __device__ void statistics(
      const M& member, int64_t pixels, const W* mask, W inverse_mass, W eps, typename M::Channel& mean, typename M::Channel& sigma) const {
    const auto weights = [&](int k) { return read<LAST ? 1 : VEC>(mask, member.n * pixels + member.pixel(k), W(1)); };
    typename M::Channel sums{};
    each(member, pixels, [&](int k, const auto& x) {
      const auto m = weights(k);
#pragma unroll
      for (int j = 0; j < VEC; ++j) sums.at(j) += x.v[j] * m.at(j);
    });
    mean = member.sum(sums);
    for (auto& v : mean.v) v *= inverse_mass;
    sums = {};
    each(member, pixels, [&](int k, const auto& x) {
      const auto m = weights(k);
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const W d = x.v[j] - mean.at(j);
        sums.at(j) += d * d * m.at(j);
      }
    });
    sigma = member.sum(sums);
    for (auto& v : sigma.v) v = std::sqrt(v * inverse_mass + eps);
  }
};

/// What a plane's pixel weights sum to, as one over it; an empty mask gives a large finite number.
template <typename T, int VEC, bool LAST, int HELD>
__device__ acc_t<T> inverse_mass(const Member<T, VEC, LAST>& member, const acc_t<T>* mask) {
  using W = acc_t<T>;
  if (mask == nullptr) return W(1) / static_cast<W>(member.hw);
  Values<W, 1> mass{};
#pragma unroll 1
  for (int k = 0; k < HELD; ++k) {
    if (!member.has(k, member.hw)) continue;
    const auto m = read<LAST ? 1 : VEC>(mask, member.n * member.hw + member.pixel(k), W(0));
    for (W v : m.v) mass.v[0] += v;
  }
  return W(1) / max(member.sum(mass).v[0], W(1.2e-38));
}

// --- Streamed maps ------------------------------------------------------------------------------------------------------

/// Sums of m, m (x - k) and m (x - k)^2 per channel.
template <typename T, int VEC, bool LAST>
struct Moments : Body<T, VEC, LAST, 3> {
  using B = Body<T, VEC, LAST>;
  using W = typename B::W;
  const T* x;
  const W *mask, *center;
  int64_t c, hw;

  Moments(const T* x_, const W* mask_, const W* center_, int64_t c_, int64_t hw_) : x(x_), mask(mask_), center(center_), c(c_), hw(hw_) {}

  struct Thread {
    typename B::Channel center;
    typename B::Pixel m;
  };
  __device__ void channel(Thread& thread, int64_t n, int64_t at) const { thread.center = read<LAST ? VEC : 1>(center, n * c + at, W(0)); }
  __device__ void pixel(Thread& thread, int64_t n, int64_t at) const { thread.m = read<LAST ? 1 : VEC>(mask, n * hw + at, W(1)); }
  __device__ auto load(int64_t offset) const { return facegan::load<VEC>(x + offset); }
  template <typename C, typename P>
  __device__ void apply(const Thread& thread, const Pack<T, VEC>& loaded, int64_t, C& sums, P&) const {
    const auto v = widen(loaded);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const W d = v.v[j] - thread.center.at(j), m = thread.m.at(j);
      sums[0].at(j) += m;
      sums[1].at(j) += m * d;
      sums[2].at(j) += m * d * d;
    }
  }
};

constexpr int kSamples = 64;

/// center[n c] = the mean of some pixels of the channel, spread over the plane.
template <typename T>
__global__ void __launch_bounds__(128)
    sample_kernel(const T* x, const acc_t<T>* mask, acc_t<T>* center, int64_t planes, int64_t c, int64_t hw, bool last) {
  using W = acc_t<T>;
  const int64_t i = int64_t(blockIdx.x) * 128 + threadIdx.x;
  if (i >= planes) return;
  center[i] = 0;
  if (hw == 0) return;
  const int64_t n = i / c, stride = last ? c : 1, samples = hw < kSamples ? hw : kSamples;
  const T* start = x + (last ? n * hw * c + (i - n * c) : i * hw);
  W plain = 0, weighted = 0, mass = 0;
#pragma unroll 4
  for (int64_t k = 0; k < samples; ++k) {
    const int64_t pixel = k * (hw / samples);
    const W v = static_cast<W>(start[pixel * stride]), m = mask == nullptr ? W(1) : mask[n * hw + pixel];
    plain += v, weighted += m * v, mass += m;
  }
  center[i] = mass > W(1e-6) ? weighted / mass : plain / static_cast<W>(samples);
}

/// From the moments [3, planes] about center to mean, sigma and mass.
template <typename W>
__global__ void __launch_bounds__(128)
    moments_kernel(const W* moments, const W* center, W* mean, W* sigma, W* mass, int64_t planes, W eps) {
  const int64_t i = int64_t(blockIdx.x) * 128 + threadIdx.x;
  if (i >= planes) return;
  const W total = max(moments[i], W(1.2e-38)), shift = moments[planes + i] / total;
  mean[i] = center[i] + shift;
  sigma[i] = std::sqrt(max(moments[2 * planes + i] / total - shift * shift, W(0)) + eps);
  mass[i] = total;
}

/// Streams x once for the statistics of its channels; they lie in `memory`, 7 n c values that the caller keeps.
template <typename T, int VEC, bool LAST>
Statistics<acc_t<T>> streamed_statistics(
    const Launcher& launch, acc_t<T>* memory, const T* x, const acc_t<T>* mask, int64_t n, int64_t c, int64_t hw, double eps) {
  using W = acc_t<T>;
  const int64_t planes = n * c, blocks = ceil_div(planes, 128);
  W *mean = memory, *sigma = mean + planes, *mass = sigma + planes, *center = mass + planes, *moments = center + planes;
  launch(sample_kernel<T>, blocks, 128, 0, x, mask, center, planes, c, hw, LAST);
  run(launch, Moments<T, VEC, LAST>(x, mask, center, c, hw), n, c, hw, Total{moments, 3 * planes});
  launch(
      moments_kernel<W>, blocks, 128, 0, static_cast<const W*>(moments), static_cast<const W*>(center), mean, sigma, mass, planes,
      static_cast<W>(eps));
  return {mean, sigma, mass};
}

}  // namespace facegan
