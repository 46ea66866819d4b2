// Shared by the CPU kernels: versions for each processor, functions that vectorise, and the division of work by
// threads.
//
// The kernels are plain loops that the compiler vectorises. A function marked CLONES must contain its loops: a function
// that it calls must be INLINE, because otherwise it is compiled for the oldest processor.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../checks.h"

// One binary serves every processor of the architecture: the loader picks the widest version that it can run.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(DIFFEXPLAIN_NO_CLONES)  // for sanitizers, which start after the loader has picked a version
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE inline __attribute__((always_inline))
#define INLINED __attribute__((always_inline))  // INLINE for a lambda

namespace diffexplain {

constexpr int64_t GRAIN = 8192;  // elements, about 5 microseconds: less is not worth waking a thread

// Number of elements above which rows are visited one by one: a processor prefetches from memory (not from a cache)
// only along one row of each tensor.
constexpr int64_t NEAR = int64_t(1) << 20;

// A power of two with which a norm multiplies numbers whose squares overflow A; it sums these in double.
template <class A>
constexpr double SMALLER = std::is_same_v<A, double> ? 0x1p-540 : 1.0;

INLINE int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Number of items in a grain, if each item has `elements` elements.
INLINE int64_t grain(int64_t elements) { return std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, elements)); }

INLINE float power_of_two(float t) {
  // 2^t is 2^n 2^f with |f| <= 1/2 and a polynomial of degree 6 (Cephes' exp2f); the error is about one unit in the
  // last place. The argument is clamped to +-126 by comparing its bits as integers, which have the order of the floats,
  // or the reverse order for negative ones. With a comparison of floats, the compiler would compute the polynomial
  // twice.
  t = __builtin_bit_cast(float, std::min(__builtin_bit_cast(int32_t, t), 0x42FC0000));
  t = __builtin_bit_cast(float, std::min(__builtin_bit_cast(uint32_t, t), 0xC2FC0000u));
  const float shifted = t + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number, in the low bits
  const float f = t - (shifted - 12582912.0f);
  float p = 1.535336188e-4f;
  p = p * f + 1.339887440e-3f;
  p = p * f + 9.618437357e-3f;
  p = p * f + 5.550332471e-2f;
  p = p * f + 2.402264791e-1f;
  p = p * f + 6.931472029e-1f;
  p = p * f + 1.0f;
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, p) + (__builtin_bit_cast(uint32_t, shifted) << 23));
}

// exp(x), but a NaN becomes a number: the callers also multiply by the argument, which keeps the NaN.
INLINE float exponential(float x) { return power_of_two(x * 1.44269504f); }
INLINE double exponential(double x) { return std::exp(x); }

constexpr int64_t LARGE_PAGE = int64_t(1) << 21;  // bytes of a large page

// Returns a dense tensor on the CPU; its memory is not set. Large memory often comes fresh from the system, and mapping
// pages of 4 KiB one by one takes longer than the kernels. So large pages are requested before the first access.
inline Tensor output(const Tensor& like, std::initializer_list<int64_t> sizes, Layout layout = Layout::rows) {
  Tensor tensor = empty(like, like.scalar_type(), sizes, layout);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const int64_t bytes = tensor.numel() * static_cast<int64_t>(tensor.element_size());
  if (bytes >= 2 * LARGE_PAGE) {
    const auto begin = reinterpret_cast<uintptr_t>(tensor.mutable_data_ptr()),
               first = (begin + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1);
    madvise(reinterpret_cast<void*>(first), begin + bytes - first, MADV_HUGEPAGE);  // the system may refuse
  }
#endif
  return tensor;
}

// A tensor of any float type and stride as a dense array of A; it is copied only if it is not one already.
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
