// Attention, one batch element and head after another, with four queries at a time against all keys. It is made for the
// few and short heads of small images, where the calls of a large matrix product cost more than its arithmetic.
//
// There is only one kind of product: a narrow matrix times a matrix with contiguous rows. Keys, and in the backward
// also values, are transposed once for it. Sums over queries run from the first to the last for any number of threads.
#include "common.h"

namespace diffexplain {
namespace {

constexpr int ROWS = 4;       // queries that are computed together
constexpr int64_t LANES = 16;  // results of each query that are summed in registers

INLINE int64_t padded(int64_t n) { return divide_up(n, LANES) * LANES; }

// Rows [N, D] of one batch and head.
template <class T>
struct Rows {
  T* data;
  int64_t step;
};

// [B, N, H, D] with stride 1 in the last dimension and any strides in the others.
template <class T>
struct Heads {
  T* data;
  int64_t batch, row, head;
  explicit Heads(const Tensor& x)
      : data(numbers(x)), batch(x.stride(0)), row(x.stride(1)), head(x.stride(2)) {}
  INLINE Rows<T> at(int64_t b, int64_t h) const { return {data + b * batch + h * head, row}; }

 private:
  static T* numbers(const Tensor& x) {
    if constexpr (std::is_const_v<T>)
      return x.const_data_ptr<std::remove_const_t<T>>();
    else
      return x.mutable_data_ptr<T>();
  }
};

// c [N, width] = a [N, depth] b [depth, width]; width is a multiple of LANES, rows of a are `step` apart, rows of b and
// c are `width` apart.
template <int N, class A>
INLINE void multiply(const A* __restrict a, int64_t step, const A* __restrict b, int64_t depth, int64_t width,
                     A* __restrict c) {
  for (int64_t j = 0; j < width; j += LANES) {
    A sum[N][LANES] = {};
    for (int64_t k = 0; k < depth; ++k)
      for (int n = 0; n < N; ++n) {
        const A factor = a[n * step + k];
#pragma omp simd
        for (int64_t i = 0; i < LANES; ++i) sum[n][i] += factor * b[k * width + j + i];
      }
    for (int n = 0; n < N; ++n)
      for (int64_t i = 0; i < LANES; ++i) c[n * width + j + i] = sum[n][i];
  }
}

// total [depth, width] += a [N, depth]^T b [N, width]; rows of a are `step` apart.
template <int N, class A>
INLINE void add_outer(const A* __restrict a, int64_t step, const A* __restrict b, int64_t depth, int64_t width,
                      A* __restrict total) {
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t i = 0; i < width; ++i) {
      A sum = total[k * width + i];
      for (int n = 0; n < N; ++n) sum += a[n * step + k] * b[n * width + i];
      total[k * width + i] = sum;
    }
}

// Copies rows [n, columns] to [n, width]; zeros fill each row.
template <class T, class A>
INLINE void copy_rows(Rows<const T> from, int64_t n, int64_t columns, int64_t width, A* __restrict to) {
  for (int64_t r = 0; r < n; ++r, to += width) {
    const T* __restrict row = from.data + r * from.step;
    for (int64_t c = 0; c < columns; ++c) to[c] = static_cast<A>(row[c]);
    for (int64_t c = columns; c < width; ++c) to[c] = 0;
  }
}

// Copies rows [n, columns] to their transpose [columns, width]; zeros fill each row.
template <class T, class A>
INLINE void transpose(Rows<const T> from, int64_t n, int64_t columns, int64_t width, A* __restrict to) {
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = n; r < width; ++r) to[c * width + r] = 0;
  for (int64_t r = 0; r < n; ++r)
    for (int64_t c = 0; c < columns; ++c) to[c * width + r] = static_cast<A>(from.data[r * from.step + c]);
}

// Writes the first `columns` of each of n rows [n, width].
template <class T, class A>
INLINE void store_rows(const A* __restrict from, int64_t n, int64_t columns, int64_t width, Rows<T> to) {
  for (int64_t r = 0; r < n; ++r)
    for (int64_t c = 0; c < columns; ++c) to.data[r * to.step + c] = static_cast<T>(from[r * width + c]);
}

// exp(x), and NaN for NaN.
template <class A>
INLINE A exponential_or_nan(A x) {
  const A y = exponential(x);
  return x == x ? y : x;
}

struct Sizes {
  int64_t heads, queries, keys, columns;
};

template <class T>
struct Inputs {
  Heads<const T> q, k, v;
  Sizes size;
  double scale;
};

// Memory of one thread, from which arrays are taken one after another.
template <class A>
class Scratch {
 public:
  explicit Scratch(int64_t numbers) : memory_(numbers), next_(memory_.data()) {}
  A* take(int64_t numbers) {
    A* array = next_;
    next_ += numbers;
    return array;
  }

 private:
  std::vector<A> memory_;
  A* next_;
};

// N queries q [N, columns] against kt [columns, wide] and v [keys, width]; rows [N, width], scores [N, wide] and sums
// [N, width] are scratch.
template <int N, class T, class A>
INLINE void forward_rows(const Inputs<T>& in, Rows<const T> q, Rows<T> o, A* lse, const A* kt, const A* v, A* rows,
                         A* scores, A* sums) {
  const int64_t keys = in.size.keys, columns = in.size.columns, wide = padded(keys), width = padded(columns);
  copy_rows(q, N, columns, width, rows);
  multiply<N>(rows, width, kt, columns, wide, scores);
  A inverse[N];
  for (int n = 0; n < N; ++n) {
    A* __restrict s = scores + n * wide;
    A highest = -INFINITY, total = 0;
#pragma omp simd reduction(max : highest)
    for (int64_t k = 0; k < keys; ++k) {
      s[k] *= A(in.scale);
      highest = s[k] > highest ? s[k] : highest;
    }
#pragma omp simd reduction(+ : total)
    for (int64_t k = 0; k < keys; ++k) {
      s[k] = exponential_or_nan(s[k] - highest);
      total += s[k];
    }
    inverse[n] = A(1) / total;
    lse[n] = highest + std::log(total);
  }
  multiply<N>(scores, wide, v, keys, width, sums);
  for (int n = 0; n < N; ++n)
    for (int64_t c = 0; c < columns; ++c) o.data[n * o.step + c] = static_cast<T>(sums[n * width + c] * inverse[n]);
}

template <class T>
CLONES void forward(const Inputs<T>& in, const Heads<T>& o, Wide<T>* lse, int64_t first, int64_t last) {
  using A = Wide<T>;
  const auto [heads, queries, keys, columns] = in.size;
  const int64_t wide = padded(keys), width = padded(columns);
  Scratch<A> scratch(columns * wide + keys * width + ROWS * (wide + 2 * width));
  A *kt = scratch.take(columns * wide), *v = scratch.take(keys * width), *rows = scratch.take(ROWS * width),
    *scores = scratch.take(ROWS * wide), *sums = scratch.take(ROWS * width);
  for (int64_t i = first; i < last; ++i) {
    const int64_t b = i / heads, h = i % heads;
    transpose(in.k.at(b, h), keys, columns, wide, kt);
    copy_rows(in.v.at(b, h), keys, columns, width, v);
    auto from = in.q.at(b, h);
    auto to = o.at(b, h);
    A* sum = lse + i * queries;
    int64_t r = 0;
    for (; r + ROWS <= queries; r += ROWS, from.data += ROWS * from.step, to.data += ROWS * to.step)
      forward_rows<ROWS>(in, from, to, sum + r, kt, v, rows, scores, sums);
    for (; r < queries; ++r, from.data += from.step, to.data += to.step)
      forward_rows<1>(in, from, to, sum + r, kt, v, rows, scores, sums);
  }
}

// Scratch of one head: kt and vt [columns, wide], k, dk and dv [keys, width], q, dy and sums [ROWS, width], weights and
// dweights [ROWS, wide].
template <class A>
struct Work {
  A *kt, *vt, *k, *q, *dy, *weights, *dweights, *dk, *dv, *sums;
};

template <int N, class T, class A>
INLINE void backward_rows(const Inputs<T>& in, Rows<const T> q, Rows<const T> o, Rows<const T> dy, const A* lse,
                          Rows<T> dq, const Work<A>& at) {
  const int64_t keys = in.size.keys, columns = in.size.columns, wide = padded(keys), width = padded(columns);
  copy_rows(q, N, columns, width, at.q);
  copy_rows(dy, N, columns, width, at.dy);
  multiply<N>(at.q, width, at.kt, columns, wide, at.weights);
  multiply<N>(at.dy, width, at.vt, columns, wide, at.dweights);
  for (int n = 0; n < N; ++n) {
    A delta = 0;
#pragma omp simd reduction(+ : delta)
    for (int64_t c = 0; c < columns; ++c) delta += at.dy[n * width + c] * static_cast<A>(o.data[n * o.step + c]);
    A *__restrict p = at.weights + n * wide, *__restrict dp = at.dweights + n * wide;
    for (int64_t k = 0; k < keys; ++k) {
      p[k] = exponential_or_nan(p[k] * A(in.scale) - lse[n]);
      dp[k] = p[k] * (dp[k] - delta) * A(in.scale);
    }
  }
  multiply<N>(at.dweights, wide, at.k, keys, width, at.sums);
  store_rows(at.sums, N, columns, width, dq);
  add_outer<N>(at.dweights, wide, at.q, keys, width, at.dk);
  add_outer<N>(at.weights, wide, at.dy, keys, width, at.dv);
}

template <class T>
CLONES void backward(const Inputs<T>& in, const Heads<const T>& o, const Heads<const T>& dy, const Wide<T>* lse,
                     const Heads<T>& dq, const Heads<T>& dk, const Heads<T>& dv, int64_t first, int64_t last) {
  using A = Wide<T>;
  const auto [heads, queries, keys, columns] = in.size;
  const int64_t wide = padded(keys), width = padded(columns);
  Scratch<A> scratch(2 * columns * wide + 3 * keys * width + ROWS * (3 * width + 2 * wide));
  Work<A> at;
  for (A** array : {&at.kt, &at.vt}) *array = scratch.take(columns * wide);
  for (A** array : {&at.k, &at.dk, &at.dv}) *array = scratch.take(keys * width);
  for (A** array : {&at.q, &at.dy, &at.sums}) *array = scratch.take(ROWS * width);
  for (A** array : {&at.weights, &at.dweights}) *array = scratch.take(ROWS * wide);
  for (int64_t i = first; i < last; ++i) {
    const int64_t b = i / heads, h = i % heads;
    transpose(in.k.at(b, h), keys, columns, wide, at.kt);
    transpose(in.v.at(b, h), keys, columns, wide, at.vt);
    copy_rows(in.k.at(b, h), keys, columns, width, at.k);
    std::fill(at.dk, at.dk + keys * width, A(0));
    std::fill(at.dv, at.dv + keys * width, A(0));
    auto q = in.q.at(b, h), out = o.at(b, h), grad = dy.at(b, h);
    auto to = dq.at(b, h);
    const A* sum = lse + i * queries;
    int64_t r = 0;
    const auto advance = [&](int64_t rows) INLINED {
      q.data += rows * q.step, out.data += rows * out.step, grad.data += rows * grad.step, to.data += rows * to.step;
      r += rows;
    };
    for (; r + ROWS <= queries; advance(ROWS)) backward_rows<ROWS>(in, q, out, grad, sum + r, to, at);
    for (; r < queries; advance(1)) backward_rows<1>(in, q, out, grad, sum + r, to, at);
    store_rows(at.dk, keys, columns, width, dk.at(b, h));
    store_rows(at.dv, keys, columns, width, dv.at(b, h));
  }
}

// Refuses a tensor unless it is [B, N, H, D] on the CPU, has the dtype of q, and contiguous columns.
void check_heads(const char* name, const Tensor& x, const Tensor& q, int64_t rows) {
  STD_TORCH_CHECK(x.dim() == 4 && x.is_cpu(), name, ": wanted [B, N, H, D] on the CPU");
  STD_TORCH_CHECK(x.scalar_type() == q.scalar_type(), name, ": wanted the dtype of q");
  const int64_t wanted[] = {q.size(0), rows, q.size(2), q.size(3)};
  for (int64_t i = 0; i < 4; ++i)
    STD_TORCH_CHECK(x.size(i) == wanted[i], name, ": wanted size ", wanted[i], " in dimension ", i, ", got ", x.size(i));
  STD_TORCH_CHECK(x.stride(3) == 1 || x.size(3) == 1, name, ": wanted columns side by side");
}

Sizes checked_sizes(const Tensor& q, const Tensor& k, const Tensor& v) {
  STD_TORCH_CHECK(q.dim() == 4 && k.dim() == 4, "q, k: wanted [B, N, H, D]");
  check_heads("q", q, q, q.size(1));
  check_heads("k", k, q, k.size(1));
  check_heads("v", v, q, k.size(1));
  STD_TORCH_CHECK(k.size(1) > 0, "k: wanted at least one key");
  return {q.size(2), q.size(1), k.size(1), q.size(3)};
}

// Number of heads in a grain. A multiplication takes a sixteenth of the time of an element that a grain counts.
int64_t heads_at_once(const Sizes& size) {
  return grain(divide_up(size.queries * size.keys * std::max<int64_t>(size.columns, 1), 16));
}

}  // namespace

std::tuple<Tensor, Tensor> attention_fwd(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  const Sizes size = checked_sizes(q, k, v);
  Tensor o = output(q, {q.size(0), size.queries, size.heads, size.columns});
  Tensor lse = empty(q, wide_type(q), {q.size(0), size.heads, size.queries});
  by_dtype("q", q, [&](auto zero) {
    using T = decltype(zero);
    const Inputs<T> in{Heads<const T>(q), Heads<const T>(k), Heads<const T>(v), size, scale};
    const Heads<T> to(o);
    auto* sums = lse.mutable_data_ptr<Wide<T>>();
    torch::stable::parallel_for(0, q.size(0) * size.heads, heads_at_once(size),
                                [&](int64_t i, int64_t end) { forward<T>(in, to, sums, i, end); });
  });
  return {o, lse};
}

std::tuple<Tensor, Tensor, Tensor> attention_bwd(const Tensor& dy, const Tensor& q, const Tensor& k, const Tensor& v,
                                                 const Tensor& o, const Tensor& lse, double scale) {
  const Sizes size = checked_sizes(q, k, v);
  check_heads("do", dy, q, size.queries);
  check_heads("o", o, q, size.queries);
  check("lse", lse, q, wide_type(q), {q.size(0), size.heads, size.queries});
  Tensor dq = output(q, {q.size(0), size.queries, size.heads, size.columns});
  Tensor dk = output(q, {q.size(0), size.keys, size.heads, size.columns});
  Tensor dv = output(q, {q.size(0), size.keys, size.heads, size.columns});
  by_dtype("q", q, [&](auto zero) {
    using T = decltype(zero);
    const Inputs<T> in{Heads<const T>(q), Heads<const T>(k), Heads<const T>(v), size, scale};
    const Heads<const T> out(o), grad(dy);
    const Heads<T> to_q(dq), to_k(dk), to_v(dv);
    const auto* sums = lse.const_data_ptr<Wide<T>>();
    torch::stable::parallel_for(0, q.size(0) * size.heads, heads_at_once(size), [&](int64_t i, int64_t end) {
      backward<T>(in, out, grad, sums, to_q, to_k, to_v, i, end);
    });
  });
  return {dq, dk, dv};
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("attention_fwd", TORCH_BOX(&attention_fwd));
  m.impl("attention_bwd", TORCH_BOX(&attention_bwd));
}

}  // namespace diffexplain
