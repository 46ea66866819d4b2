// value * gelu(gate) of packed rows (value | gate), with the exact error function.
#include "common.h"

namespace diffexplain {
namespace {

constexpr double SQRT_HALF = 0.70710678118654752440, DENSITY = 0.39894228040143267794;  // 1/sqrt(2), 1/sqrt(2 pi)

template <class A>
INLINE A normal_cdf(A g) {
  return A(0.5) * (A(1) + error_function(g * A(SQRT_HALF)));
}

template <class T>
CLONES void forward_rows(const T* __restrict h, T* __restrict y, int64_t rows, int64_t width) {
  using A = Wide<T>;
  for (int64_t r = 0; r < rows; ++r) {
    const T *value = h + 2 * r * width, *gate = value + width;
    T* out = y + r * width;
    for (int64_t c = 0; c < width; ++c) {
      const A g = static_cast<A>(gate[c]);
      out[c] = static_cast<T>(static_cast<A>(value[c]) * g * normal_cdf(g));
    }
  }
}

template <class T>
CLONES void backward_rows(const T* __restrict dy, const T* __restrict h, T* __restrict dh, int64_t rows,
                          int64_t width) {
  using A = Wide<T>;
  for (int64_t r = 0; r < rows; ++r) {
    const T *value = h + 2 * r * width, *gate = value + width, *grad = dy + r * width;
    T *dvalue = dh + 2 * r * width, *dgate = dvalue + width;
    for (int64_t c = 0; c < width; ++c) {
      const A g = static_cast<A>(gate[c]), d = static_cast<A>(grad[c]), cdf = normal_cdf(g);
      const A density = A(DENSITY) * exponential(A(-0.5) * g * g);
      dvalue[c] = static_cast<T>(d * g * cdf);
      dgate[c] = static_cast<T>(d * static_cast<A>(value[c]) * (cdf + g * density));
    }
  }
}

int64_t grain(int64_t width) { return std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, width)); }

}  // namespace

Tensor geglu_fwd(const Tensor& h) {
  const int64_t rows = h.size(0), width = h.size(1) / 2;
  const std::vector<int64_t> sizes = {rows, width};
  Tensor y = torch::stable::new_empty(h, sizes);
  by_dtype("geglu", h, [&](auto zero) {
    using T = decltype(zero);
    const T* from = h.const_data_ptr<T>();
    T* to = y.mutable_data_ptr<T>();
    torch::stable::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      forward_rows<T>(from + 2 * begin * width, to + begin * width, end - begin, width);
    });
  });
  return y;
}

Tensor geglu_bwd(const Tensor& dy, const Tensor& h) {
  const int64_t rows = h.size(0), width = h.size(1) / 2;
  Tensor dh = torch::stable::empty_like(h);
  by_dtype("geglu", h, [&](auto zero) {
    using T = decltype(zero);
    const T *grad = dy.const_data_ptr<T>(), *from = h.const_data_ptr<T>();
    T* to = dh.mutable_data_ptr<T>();
    torch::stable::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      backward_rows<T>(grad + begin * width, from + 2 * begin * width, to + 2 * begin * width, end - begin, width);
    });
  });
  return dh;
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("geglu_fwd", TORCH_BOX(&geglu_fwd));
  m.impl("geglu_bwd", TORCH_BOX(&geglu_bwd));
}

}  // namespace diffexplain
