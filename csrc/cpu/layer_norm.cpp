// LayerNorm over the last dimension: first the mean, then the deviations from it. Small tensors are computed several
// rows at a time, so that their sums do not wait for one another; large ones row by row, which the processor
// prefetches.
#include "common.h"

// The compiler may add in any order: otherwise it adds up the lanes of a vector one by one, a fifth of the time.
#pragma GCC optimize("associative-math", "no-signed-zeros")

namespace diffexplain {
namespace {

constexpr int64_t CHUNK = 4096;  // columns: few enough for a float32 sum in the lanes of a vector
constexpr int SUMS = 4;  // sums that run in parallel
constexpr int BLOCK = SUMS;  // rows that always go to one thread together, so that the grouping of rows never changes

// Sums f(k, column) over the columns from first to end for each k below N.
template <int N, class A, class F>
INLINE void sums_of_chunk(int64_t first, int64_t end, A* total, F&& f) {
  A a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
  for (int64_t i = first; i < end; ++i) {
    a += f(0, i);
    if constexpr (N > 1) b += f(1, i);
    if constexpr (N > 2) c += f(2, i), d += f(3, i);
  }
  const A all[SUMS] = {a, b, c, d};
  for (int k = 0; k < N; ++k) total[k] = all[k];
}

// Sums f(k, column) over the columns for each k below N: chunks in A, and their sums in double.
template <int N, class A, class F>
INLINE void sums_over_columns(int64_t width, A* total, F&& f) {
  if (width <= CHUNK) return sums_of_chunk<N>(0, width, total, f);  // without the outer loop, which costs a seventh
  double whole[N] = {};
  for (int64_t first = 0; first < width; first += CHUNK) {
    sums_of_chunk<N>(first, std::min(first + CHUNK, width), total, f);
    for (int k = 0; k < N; ++k) whole[k] += total[k];
  }
  for (int k = 0; k < N; ++k) total[k] = static_cast<A>(whole[k]);
}

// Sets mean and rstd of a row whose sum or sum of squares overflows A; they are computed from numbers scaled by
// SMALLER.
template <class T, class A>
void scaled_statistics(const T* x, int64_t width, double eps, A* mean, A* rstd) {
  double centre = 0, square = 0;
  for (int64_t c = 0; c < width; ++c) centre += SMALLER<A> * static_cast<double>(x[c]);
  centre /= width;
  for (int64_t c = 0; c < width; ++c) {
    const double d = SMALLER<A> * static_cast<double>(x[c]) - centre;
    square += d * d;
  }
  *mean = static_cast<A>(centre / SMALLER<A>);
  *rstd = static_cast<A>(SMALLER<A> / std::sqrt(square / width + SMALLER<A> * SMALLER<A> * eps));
}

// N rows x and y [N, width]; weight and bias are [width], mean and rstd [N].
template <int N, class T, class A>
INLINE void forward_rows(const T* __restrict x, T* __restrict y, int64_t width, const A* __restrict weight,
                         const A* __restrict bias, double eps, A* __restrict mean, A* __restrict rstd) {
  A centre[N], scale[N];
  const auto at = [&](int k, int64_t c) INLINED { return static_cast<A>(x[k * width + c]); };
  sums_over_columns<N>(width, centre, at);
  for (int k = 0; k < N; ++k) mean[k] = centre[k] /= A(width);
  sums_over_columns<N>(width, scale, [&](int k, int64_t c) INLINED {
    const A d = at(k, c) - centre[k];
    return d * d;
  });
  for (int k = 0; k < N; ++k) {
    rstd[k] = A(1) / std::sqrt(scale[k] / A(width) + A(eps));
    if (!(rstd[k] > A(0))) {
      scaled_statistics(x + k * width, width, eps, mean + k, rstd + k);
      centre[k] = mean[k];
    }
    scale[k] = rstd[k];
  }
  for (int k = 0; k < N; ++k)
    for (int64_t c = 0; c < width; ++c)
      y[k * width + c] = static_cast<T>((at(k, c) - centre[k]) * scale[k] * weight[c] + bias[c]);
}

template <class T>
CLONES void forward(bool near, const T* x, T* y, int64_t rows, int64_t width, const Wide<T>* weight,
                    const Wide<T>* bias, double eps, Wide<T>* mean, Wide<T>* rstd) {
  constexpr int N = SUMS;
  int64_t r = 0;
  for (; near && r + N <= rows; r += N)
    forward_rows<N>(x + r * width, y + r * width, width, weight, bias, eps, mean + r, rstd + r);
  for (; r < rows; ++r) forward_rows<1>(x + r * width, y + r * width, width, weight, bias, eps, mean + r, rstd + r);
}

// N rows dy, x and dx [N, width]; weight is [width], mean and rstd [N].
template <int N, class T, class A>
INLINE void backward_rows(const T* __restrict dy, const T* __restrict x, T* __restrict dx, int64_t width,
                          const A* __restrict weight, const A* __restrict mean, const A* __restrict rstd) {
  const auto n = [&](int k, int64_t c) INLINED { return (static_cast<A>(x[k * width + c]) - mean[k]) * rstd[k]; };
  const auto dn = [&](int k, int64_t c) INLINED { return static_cast<A>(dy[k * width + c]) * weight[c]; };
  A total[2 * N];  // the sums of dn and of dn n for each row
  sums_over_columns<2 * N>(width, total, [&](int k, int64_t c) INLINED {
    const A d = dn(k / 2, c);
    return k % 2 ? d * n(k / 2, c) : d;
  });
  for (int k = 0; k < N; ++k) {
    const A sum = total[2 * k] / A(width), product = total[2 * k + 1] / A(width), scale = rstd[k];
    for (int64_t c = 0; c < width; ++c)
      dx[k * width + c] = static_cast<T>(scale * (dn(k, c) - sum - n(k, c) * product));
  }
}

template <class T>
CLONES void backward(bool near, const T* dy, const T* x, T* dx, int64_t rows, int64_t width, const Wide<T>* weight,
                     const Wide<T>* mean, const Wide<T>* rstd) {
  constexpr int N = SUMS / 2;  // each row has two sums
  int64_t r = 0;
  for (; near && r + N <= rows; r += N)
    backward_rows<N>(dy + r * width, x + r * width, dx + r * width, width, weight, mean + r, rstd + r);
  for (; r < rows; ++r)
    backward_rows<1>(dy + r * width, x + r * width, dx + r * width, width, weight, mean + r, rstd + r);
}

// Calls f(first, count) for rows of the width, in parallel if there are many.
template <class F>
void over_rows(int64_t rows, int64_t width, F&& f) {
  torch::stable::parallel_for(0, divide_up(rows, BLOCK), grain(BLOCK * width), [&](int64_t block, int64_t end) {
    f(block * BLOCK, std::min(end * BLOCK, rows) - block * BLOCK);
  });
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
  const bool near = x.numel() <= NEAR;
  check_weights("bias", bias, x, {width});
  Tensor y = output(x, {rows, width});
  Tensor mean = empty(x, wide_type(x), {rows}), rstd = empty(x, wide_type(x), {rows});
  by_dtype("x", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const Numbers<A> w(weight), b(bias);
    const T* from = x.const_data_ptr<T>();
    T* to = y.mutable_data_ptr<T>();
    A *means = mean.mutable_data_ptr<A>(), *scales = rstd.mutable_data_ptr<A>();
    over_rows(rows, width, [&](int64_t first, int64_t count) {
      const int64_t at = first * width;
      forward<T>(near, from + at, to + at, count, width, w.data(), b.data(), eps, means + first, scales + first);
    });
  });
  return {y, mean, rstd};
}

Tensor layer_norm_bwd(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
  check_rows(x, weight);
  const int64_t rows = x.size(0), width = x.size(1);
  const bool near = x.numel() <= NEAR;
  check("dy", dy, x, x.scalar_type(), {rows, width});
  check("mean", mean, x, wide_type(x), {rows});
  check("rstd", rstd, x, wide_type(x), {rows});
  Tensor dx = output(x, {rows, width});
  by_dtype("x", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const Numbers<A> w(weight);
    const T *grad = dy.const_data_ptr<T>(), *from = x.const_data_ptr<T>();
    T* to = dx.mutable_data_ptr<T>();
    const A *means = mean.const_data_ptr<A>(), *scales = rstd.const_data_ptr<A>();
    over_rows(rows, width, [&](int64_t first, int64_t count) {
      const int64_t at = first * width;
      backward<T>(near, grad + at, from + at, to + at, count, width, w.data(), means + first, scales + first);
    });
  });
  return dx;
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("layer_norm_fwd", TORCH_BOX(&layer_norm_fwd));
  m.impl("layer_norm_bwd", TORCH_BOX(&layer_norm_bwd));
}

}  // namespace diffexplain
