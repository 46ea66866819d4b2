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
    const T* __restrict value = h + 2 * r * width, * __restrict gate = value + width;
    T* __restrict out = y + r * width;
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
    const T* __restrict value = h + 2 * r * width, * __restrict gate = value + width, * __restrict grad = dy + r * width;
    T* __restrict dvalue = dh + 2 * r * width, * __restrict dgate = dvalue + width;
    for (int64_t c = 0; c < width; ++c) {
      const A g = static_cast<A>(gate[c]), d = static_cast<A>(grad[c]), cdf = normal_cdf(g);
      const A density = A(DENSITY) * exponential(A(-0.5) * g * g);
      dvalue[c] = static_cast<T>(d * g * cdf);
      dgate[c] = static_cast<T>(d * static_cast<A>(value[c]) * (cdf + g * density));
    }
  }
}

int64_t checked_width(const Tensor& h) {
  STD_TORCH_CHECK(h.dim() == 2 && h.size(1) % 2 == 0 && h.is_cpu(), "h: wanted [R, 2D] on the CPU");
  check("h", h, h, h.scalar_type(), {h.size(0), h.size(1)});
  return h.size(1) / 2;
}

}  // namespace

Tensor geglu_fwd(const Tensor& h) {
  const int64_t width = checked_width(h), rows = h.size(0);
  Tensor y = empty(h, h.scalar_type(), {rows, width});
  by_dtype("h", h, [&](auto zero) {
    using T = decltype(zero);
    const T* from = h.const_data_ptr<T>();
    T* to = y.mutable_data_ptr<T>();
    torch::stable::parallel_for(0, rows, grain(width), [&](int64_t i, int64_t end) {
      forward_rows<T>(from + 2 * i * width, to + i * width, end - i, width);
    });
  });
  return y;
}

Tensor geglu_bwd(const Tensor& dy, const Tensor& h) {
  const int64_t width = checked_width(h), rows = h.size(0);
  check("dy", dy, h, h.scalar_type(), {rows, width});
  Tensor dh = empty(h, h.scalar_type(), {rows, 2 * width});
  by_dtype("h", h, [&](auto zero) {
    using T = decltype(zero);
    const T *grad = dy.const_data_ptr<T>(), *from = h.const_data_ptr<T>();
    T* to = dh.mutable_data_ptr<T>();
    torch::stable::parallel_for(0, rows, grain(width), [&](int64_t i, int64_t end) {
      backward_rows<T>(grad + i * width, from + 2 * i * width, to + 2 * i * width, end - i, width);
    });
  });
  return dh;
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("geglu_fwd", TORCH_BOX(&geglu_fwd));
  m.impl("geglu_bwd", TORCH_BOX(&geglu_bwd));
}

}  // namespace diffexplain
