// LayerNorm over the last dimension, one row at a time: mean, then deviations from it.
#include "common.h"

namespace diffexplain {
namespace {

template <class T>
CLONES void forward_rows(const T* __restrict x, T* __restrict y, int64_t rows, int64_t width,
                         const Wide<T>* __restrict weight, const Wide<T>* __restrict bias, double eps, Wide<T>* mean,
                         Wide<T>* rstd) {
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
      product += dn * (static_cast<A>(x[c]) - centre) * scale;
    }
    sum /= A(width);
    product /= A(width);
    for (int64_t c = 0; c < width; ++c) {
      const A n = (static_cast<A>(x[c]) - centre) * scale;
      dx[c] = static_cast<T>(scale * (static_cast<A>(dy[c]) * weight[c] - sum - n * product));
    }
  }
}

int64_t grain(int64_t width) { return std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, width)); }

}  // namespace

std::tuple<Tensor, Tensor, Tensor> layer_norm_fwd(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                                  double eps) {
  const int64_t rows = x.size(0), width = x.size(1);
  Tensor y = torch::stable::empty_like(x);
  const std::vector<int64_t> sizes = {rows};
  Tensor mean = torch::stable::new_empty(x, sizes, wide_type(x)),
         rstd = torch::stable::new_empty(x, sizes, wide_type(x));
  by_dtype("layer_norm", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const auto w = numbers<A>(weight), b = numbers<A>(bias);
    const T* from = x.const_data_ptr<T>();
    T* to = y.mutable_data_ptr<T>();
    A *means = mean.mutable_data_ptr<A>(), *scales = rstd.mutable_data_ptr<A>();
    torch::stable::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      forward_rows<T>(from + begin * width, to + begin * width, end - begin, width, w.data(), b.data(), eps,
                      means + begin, scales + begin);
    });
  });
  return {y, mean, rstd};
}

Tensor layer_norm_bwd(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
  const int64_t rows = x.size(0), width = x.size(1);
  Tensor dx = torch::stable::empty_like(x);
  by_dtype("layer_norm", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const auto w = numbers<A>(weight);
    const T *grad = dy.const_data_ptr<T>(), *from = x.const_data_ptr<T>();
    T* to = dx.mutable_data_ptr<T>();
    const A *means = mean.const_data_ptr<A>(), *scales = rstd.const_data_ptr<A>();
    torch::stable::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      backward_rows<T>(grad + begin * width, from + begin * width, to + begin * width, end - begin, width, w.data(),
                       means + begin, scales + begin);
    });
  });
  return dx;
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("layer_norm_fwd", TORCH_BOX(&layer_norm_fwd));
  m.impl("layer_norm_bwd", TORCH_BOX(&layer_norm_bwd));
}

}  // namespace diffexplain
