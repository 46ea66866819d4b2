// LayerNorm over the last dimension, one row at a time: mean, then deviations from it.
#include "common.h"

namespace diffexplain {
namespace {

template <class T>
CLONES void forward_rows(const T* __restrict x, T* __restrict y, int64_t rows, int64_t width,
                         const Wide<T>* __restrict weight, const Wide<T>* __restrict bias, double eps,
                         Wide<T>* __restrict mean, Wide<T>* __restrict rstd) {
  using A = Wide<T>;
  for (int64_t r = 0; r < rows; ++r, x += width, y += width) {
    A sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < width; ++c) sum += static_cast<A>(x[c]);
    const A centre = sum / A(width);
#pragma omp simd reduction(+ : square)
    for (int64_t c = 0; c < width; ++c) {
      const A d = static_cast<A>(x[c]) - centre;
      square += d * d;
    }
    const A scale = A(1) / std::sqrt(square / A(width) + A(eps));
    mean[r] = centre;
    rstd[r] = scale;
    for (int64_t c = 0; c < width; ++c)
      y[c] = static_cast<T>((static_cast<A>(x[c]) - centre) * scale * weight[c] + bias[c]);
  }
}

template <class T>
CLONES void backward_rows(const T* __restrict dy, const T* __restrict x, T* __restrict dx, int64_t rows, int64_t width,
                          const Wide<T>* __restrict weight, const Wide<T>* __restrict mean,
                          const Wide<T>* __restrict rstd) {
  using A = Wide<T>;
  for (int64_t r = 0; r < rows; ++r, x += width, dy += width, dx += width) {
    const A centre = mean[r], scale = rstd[r];
    A sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t c = 0; c < width; ++c) {
      const A dn = static_cast<A>(dy[c]) * weight[c];
      sum += dn;
      product += dn * ((static_cast<A>(x[c]) - centre) * scale);
    }
    sum /= A(width);
    product /= A(width);
    for (int64_t c = 0; c < width; ++c) {
      const A n = (static_cast<A>(x[c]) - centre) * scale;
      dx[c] = static_cast<T>(scale * (static_cast<A>(dy[c]) * weight[c] - sum - n * product));
    }
  }
}

void check_rows(const Tensor& x, const Tensor& weight) {
  STD_TORCH_CHECK(x.dim() == 2 && x.is_cpu(), "x: wanted [R, D] on the CPU");
  check("x", x, x, x.scalar_type(), {x.size(0), x.size(1)});
  check_weights("weight", weight, x, {x.size(1)});
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> layer_norm_fwd(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                                  double eps) {
  check_rows(x, weight);
  const int64_t rows = x.size(0), width = x.size(1);
  check_weights("bias", bias, x, {width});
  Tensor y = empty(x, x.scalar_type(), {rows, width});
  Tensor mean = empty(x, wide_type(x), {rows}), rstd = empty(x, wide_type(x), {rows});
  by_dtype("x", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const Numbers<A> w(weight), b(bias);
    const T* from = x.const_data_ptr<T>();
    T* to = y.mutable_data_ptr<T>();
    A *means = mean.mutable_data_ptr<A>(), *scales = rstd.mutable_data_ptr<A>();
    torch::stable::parallel_for(0, rows, grain(width), [&](int64_t i, int64_t end) {
      forward_rows<T>(from + i * width, to + i * width, end - i, width, w.data(), b.data(), eps, means + i, scales + i);
    });
  });
  return {y, mean, rstd};
}

Tensor layer_norm_bwd(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
  check_rows(x, weight);
  const int64_t rows = x.size(0), width = x.size(1);
  check("dy", dy, x, x.scalar_type(), {rows, width});
  check("mean", mean, x, wide_type(x), {rows});
  check("rstd", rstd, x, wide_type(x), {rows});
  Tensor dx = empty(x, x.scalar_type(), {rows, width});
  by_dtype("x", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const Numbers<A> w(weight);
    const T *grad = dy.const_data_ptr<T>(), *from = x.const_data_ptr<T>();
    T* to = dx.mutable_data_ptr<T>();
    const A *means = mean.const_data_ptr<A>(), *scales = rstd.const_data_ptr<A>();
    torch::stable::parallel_for(0, rows, grain(width), [&](int64_t i, int64_t end) {
      const int64_t at = i * width;
      backward_rows<T>(grad + at, from + at, to + at, end - i, width, w.data(), means + i, scales + i);
    });
  });
  return dx;
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("layer_norm_fwd", TORCH_BOX(&layer_norm_fwd));
  m.impl("layer_norm_bwd", TORCH_BOX(&layer_norm_bwd));
}

}  // namespace diffexplain
