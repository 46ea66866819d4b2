// What the CPU kernels share: number types, vectorisable functions, the dtype switch, and how much work a thread takes.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

// One binary for every processor of the architecture: the loader picks the widest version that runs.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__) && \
    !defined(DIFFEXPLAIN_NO_CLONES)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE inline __attribute__((always_inline))

namespace diffexplain {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Numbers are stored as T and computed as Wide<T>.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

constexpr int64_t GRAIN = 16384;  // elements; less is not worth waking a thread

INLINE float exponential(float x) {
  // 2^n e^r with |r| <= ln(2) / 2 and a polynomial of degree 5 in r (Cephes' expf): below 2 units in the last place.
  x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  float n = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds to a whole number
  const int32_t power = __builtin_bit_cast(int32_t, n) - 0x4B400000;
  n -= 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * __builtin_bit_cast(float, (power + 127) << 23);
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

template <class A>
INLINE A sigmoid(A v) {
  return A(1) / (A(1) + exponential(-v));
}

// Calls f with a value of the tensor's number type.
template <class F>
void by_dtype(const char* op, const Tensor& tensor, F&& f) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return f(float());
    case ScalarType::Double:
      return f(double());
    case ScalarType::BFloat16:
      return f(torch::headeronly::BFloat16());
    case ScalarType::Half:
      return f(torch::headeronly::Half());
    default:
      STD_TORCH_CHECK(false, op, ": wanted float32, float64, bfloat16 or float16");
  }
}

inline ScalarType wide_type(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline Tensor empty_channels_last(const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w) {
  const std::vector<int64_t> sizes = {n, c, h, w};
  return torch::stable::empty(sizes, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
                              torch::headeronly::MemoryFormat::ChannelsLast);
}

// Weights arrive in any float type; [C] numbers are converted once per call.
template <class A>
std::vector<A> numbers(const Tensor& tensor) {
  std::vector<A> out(tensor.numel());
  const Tensor dense = torch::stable::contiguous(tensor);
  by_dtype("weights", dense, [&](auto zero) {
    using T = decltype(zero);
    const T* p = dense.const_data_ptr<T>();
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<A>(p[i]);
  });
  return out;
}

}  // namespace diffexplain
