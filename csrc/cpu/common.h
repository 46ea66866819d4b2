// What the CPU kernels share: versions for every processor, functions that vectorise, and how work is cut for threads.
//
// The kernels are plain loops that the compiler vectorises. A function marked CLONES must hold its loops itself: what
// it calls has to be INLINE, or it is compiled for the oldest processor.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

#include "../checks.h"

// One binary for every processor of the architecture: the loader picks the widest version that runs.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)  // whose runtime is not up yet when the loader asks which
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE inline __attribute__((always_inline))

namespace diffexplain {

constexpr int64_t GRAIN = 8192;  // elements, some 5 microseconds of work: less is not worth waking a thread

INLINE int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Items of so many elements that make up a grain.
INLINE int64_t grain(int64_t elements) { return std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, elements)); }

INLINE float exponential(float x) {
  // 2^n e^r with |r| <= ln(2) / 2 and a polynomial of degree 5 in r (Cephes' expf): below 2 units in the last place.
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  // Clamped to 87 as a whole number: compared as a float, the compiler computes what follows once more for the
  // constant.
  x = __builtin_bit_cast(float, std::min(bits & 0x7FFFFFFFu, 0x42AE0000u) | (bits & 0x80000000u));
  const float shifted = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds to a whole number, in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, p) + (__builtin_bit_cast(uint32_t, shifted) << 23));
}
INLINE double exponential(double x) { return std::exp(x); }

INLINE float error_function(float a) {
  // Two polynomials that meet at 475/512, after N. Juffa's single-precision erf: about one unit in the last place.
  const float t = std::fabs(a), s = a * a;
  float far = -1.72853470e-5f * t + 3.83197126e-4f;
  const float u = -3.88396438e-3f * t + 2.42546219e-2f;
  far = far * s + u;
  far = far * t - 1.06777877e-1f;
  far = far * t - 6.34846687e-1f;
  far = far * t - 1.28717512e-1f;
  far = far * t - t;
  far = 1.0f - exponential(far);
  far = a < 0.0f ? -far : far;
  float near = -5.96761703e-4f;
  near = near * s + 4.99119423e-3f;
  near = near * s - 2.67681349e-2f;
  near = near * s + 1.12819925e-1f;
  near = near * s - 3.76125336e-1f;
  near = near * s + 1.28379166e-1f;
  near = near * a + a;
  return t > 0.927734375f ? far : near;
}
INLINE double error_function(double a) { return std::erf(a); }

// Numbers of any float type and stride as a dense array, copied only where they are not one.
template <class A>
class Numbers {
 public:
  explicit Numbers(const Tensor& tensor) {
    if (tensor.scalar_type() == torch::headeronly::CppTypeToScalarType<A>::value && tensor.is_contiguous()) {
      data_ = tensor.const_data_ptr<A>();
      return;
    }
    copy_.resize(tensor.numel());
    const Tensor dense = torch::stable::contiguous(tensor);
    by_dtype("weights", dense, [&](auto zero) {
      using T = decltype(zero);
      const T* from = dense.const_data_ptr<T>();
      for (size_t i = 0; i < copy_.size(); ++i) copy_[i] = static_cast<A>(from[i]);
    });
    data_ = copy_.data();
  }
  const A* data() const { return data_; }

 private:
  const A* data_;
  std::vector<A> copy_;
};

}  // namespace diffexplain
