// GroupNorm, the shift before it and SiLU after it, channels-last, over one tensor or over two as if concatenated.
//
// There are two passes over the pixels of an image, each along whole rows of channels. The first adds up the sums that
// the groups need, per channel, in chunks of CHUNK pixels for any number of threads; the chunks are then combined in a
// fixed order in float64. So any number of threads gives the same bits. Statistics are those of the differences from
// the mean of a chunk's first pixels, so that neither a large mean nor one large pixel costs the digits of the
// variance.
#include "common.h"

namespace diffexplain {
namespace {

constexpr int64_t CHUNK = 128;  // pixels: few enough for a sequential float32 sum
constexpr int ROWS = 4;         // pixels between two reads of the numbers of a channel
constexpr int64_t FIRST = 8;    // pixels whose mean is subtracted in a chunk: a single pixel could be an outlier

// Per-channel numbers of one image, starting at the first channel of a source.
template <class A>
struct Channels {
  const A *mean, *rstd, *weight, *bias;  // [channels] each; mean minus shift, so that n = (x - mean) rstd
  Channels from(int64_t channel) const { return {mean + channel, rstd + channel, weight + channel, bias + channel}; }
};

// Adds up N pixels x [N, channels] minus origin [channels], and their squares.
template <int N, class T, class A>
INLINE void add_moments(const T* __restrict x, int64_t channels, const A* __restrict origin, A* __restrict sum,
                        A* __restrict square) {
  for (int64_t c = 0; c < channels; ++c) {
    A s = 0, q = 0;
    for (int k = 0; k < N; ++k) {
      const A d = static_cast<A>(x[k * channels + c]) - origin[c];
      s += d;
      q += d * d;
    }
    sum[c] += s;
    square[c] += q;
  }
}

// Sets origin [channels] to the mean of the first pixels x [pixels, channels], and adds up the moments of all of them.
template <class T>
CLONES void moments(bool near, const T* x, int64_t pixels, int64_t channels, Wide<T>* __restrict origin, Wide<T>* sum,
                    Wide<T>* square) {
  const int64_t first = std::min(pixels, FIRST);
  const Wide<T> share = Wide<T>(1) / first;
  for (int64_t p = 0; p < first; ++p)
    for (int64_t c = 0; c < channels; ++c) origin[c] += static_cast<Wide<T>>(x[p * channels + c]) * share;
  int64_t p = 0;
  for (; near && p + ROWS <= pixels; p += ROWS) add_moments<ROWS>(x + p * channels, channels, origin, sum, square);
  for (; p < pixels; ++p) add_moments<1>(x + p * channels, channels, origin, sum, square);
}

// N pixels x [N, channels] to y, whose pixels are `stride` apart.
template <int N, bool SILU, class T, class A>
INLINE void normalise_rows(const T* __restrict x, T* __restrict y, int64_t channels, int64_t stride, Channels<A> of) {
  const A* __restrict mean = of.mean, * __restrict rstd = of.rstd, * __restrict weight = of.weight, * __restrict bias = of.bias;
  for (int64_t c = 0; c < channels; ++c)
    for (int k = 0; k < N; ++k) {
      const A v = (static_cast<A>(x[k * channels + c]) - mean[c]) * (rstd[c] * weight[c]) + bias[c];
      y[k * stride + c] = static_cast<T>(SILU ? v / (A(1) + exponential(-v)) : v);
    }
}

template <class T, bool SILU>
CLONES void normalise(bool near, const T* x, T* y, int64_t pixels, int64_t channels, int64_t stride,
                      Channels<Wide<T>> of) {
  int64_t p = 0;
  for (; near && p + ROWS <= pixels; p += ROWS)
    normalise_rows<ROWS, SILU>(x + p * channels, y + p * stride, channels, stride, of);
  for (; p < pixels; ++p) normalise_rows<1, SILU>(x + p * channels, y + p * stride, channels, stride, of);
}

// dn = dy silu'(v) w at one element.
template <bool SILU, class A>
INLINE A adjoint(A dy, A n, A weight, A bias) {
  if constexpr (!SILU) return dy * weight;
  const A v = n * weight + bias, s = A(1) / (A(1) + exponential(-v));
  return dy * weight * (s + v * s * (A(1) - s));
}

// Adds up dn and dn n; stores dn in `keep`, except in low precision, where the second pass computes it again.
// x and keep are [N, channels], pixels of dy are `stride` apart, sum and product are [channels].
template <int N, bool SILU, class T, class A>
INLINE void add_adjoints(const T* __restrict x, const T* __restrict dy, int64_t channels, int64_t stride,
                         Channels<A> of, T* __restrict keep, A* __restrict sum, A* __restrict product) {
  const A* __restrict mean = of.mean, * __restrict rstd = of.rstd, * __restrict weight = of.weight, * __restrict bias = of.bias;
  for (int64_t c = 0; c < channels; ++c) {
    A s = 0, q = 0;
    for (int k = 0; k < N; ++k) {
      const A n = (static_cast<A>(x[k * channels + c]) - mean[c]) * rstd[c];
      const A dn = adjoint<SILU>(static_cast<A>(dy[k * stride + c]), n, weight[c], bias[c]);
      if constexpr (std::is_same_v<T, A>) keep[k * channels + c] = dn;
      s += dn;
      q += dn * n;
    }
    sum[c] += s;
    product[c] += q;
  }
}

template <class T, bool SILU>
CLONES void adjoints(bool near, const T* x, const T* dy, int64_t pixels, int64_t channels, int64_t stride,
                     Channels<Wide<T>> of, T* keep, Wide<T>* sum, Wide<T>* product) {
  int64_t p = 0;
  for (; near && p + ROWS <= pixels; p += ROWS)
    add_adjoints<ROWS, SILU>(x + p * channels, dy + p * stride, channels, stride, of, keep + p * channels, sum,
                             product);
  for (; p < pixels; ++p)
    add_adjoints<1, SILU>(x + p * channels, dy + p * stride, channels, stride, of, keep + p * channels, sum, product);
}

// N pixels of dx [N, channels]; first and second [channels] are the means of dn and of dn n.
template <int N, bool SILU, class T, class A>
INLINE void finish_rows(const T* __restrict x, const T* __restrict dy, int64_t channels, int64_t stride, Channels<A> of,
                        const A* __restrict first, const A* __restrict second, T* __restrict dx) {
  const A* __restrict mean = of.mean, * __restrict rstd = of.rstd, * __restrict weight = of.weight, * __restrict bias = of.bias;
  for (int64_t c = 0; c < channels; ++c)
    for (int k = 0; k < N; ++k) {
      const A n = (static_cast<A>(x[k * channels + c]) - mean[c]) * rstd[c];
      A dn;
      if constexpr (std::is_same_v<T, A>)
        dn = dx[k * channels + c];
      else
        dn = adjoint<SILU>(static_cast<A>(dy[k * stride + c]), n, weight[c], bias[c]);
      dx[k * channels + c] = static_cast<T>(rstd[c] * (dn - first[c] - n * second[c]));
    }
}

template <class T, bool SILU>
CLONES void finish(bool near, const T* x, const T* dy, int64_t pixels, int64_t channels, int64_t stride,
                   Channels<Wide<T>> of, const Wide<T>* first, const Wide<T>* second, T* dx) {
  int64_t p = 0;
  for (; near && p + ROWS <= pixels; p += ROWS)
    finish_rows<ROWS, SILU>(x + p * channels, dy + p * stride, channels, stride, of, first, second, dx + p * channels);
  for (; p < pixels; ++p)
    finish_rows<1, SILU>(x + p * channels, dy + p * stride, channels, stride, of, first, second, dx + p * channels);
}

// Adds up the sums of all chunks, [chunks, 2, channels], from the first chunk to the last.
template <class A>
CLONES void combine(const A* partial, int64_t chunks, int64_t channels, double* __restrict total) {
  std::fill(total, total + 2 * channels, 0.0);
  for (int64_t k = 0; k < chunks; ++k) {
    const A* __restrict sums = partial + k * 2 * channels;
    for (int64_t c = 0; c < 2 * channels; ++c) total[c] += sums[c];
  }
}

// Combines [chunks, 3, channels] (sums of differences from the origin of a chunk, sums of their squares, and the
// origins) to sums of differences from the first origin and sums of their squares.
template <class A>
CLONES void combine_moments(const A* partial, int64_t pixels, int64_t channels, double* __restrict level,
                            double* __restrict square) {
  for (int64_t start = 0; start < pixels; start += CHUNK) {
    const double count = std::min(CHUNK, pixels - start);
    const A* __restrict sums = partial + start / CHUNK * 3 * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const double away = static_cast<double>(sums[2 * channels + c]) - static_cast<double>(partial[2 * channels + c]);
      level[c] += sums[c] + count * away;
      square[c] += sums[channels + c] + away * (2 * sums[c] + count * away);
    }
  }
}

INLINE double sum_of(const double* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += values[i];
  return sum;
}

struct Shape {
  int64_t images, channels, height, width, pixels, groups, span, chunks;  // span: channels of a group
  bool near;
};

template <class T>
struct Source {  // one of the two tensors whose channels are concatenated
  const T* data;  // [images, pixels, channels]
  T* out;         // the same
  int64_t channels, offset;
  const T* at(int64_t pixel) const { return data + pixel * channels; }
  T* out_at(int64_t pixel) const { return out + pixel * channels; }
};

template <class T>
std::vector<Source<T>> sources(const Tensor& x, const std::optional<Tensor>& skip) {
  std::vector<Source<T>> out = {{x.const_data_ptr<T>(), nullptr, x.size(1), 0}};
  if (skip) out.push_back({skip->const_data_ptr<T>(), nullptr, skip->size(1), x.size(1)});
  return out;
}

// Runs the two passes: `first` and `last` get (image, chunk, first pixel, pixels), `between` gets the image. If the
// images divide evenly among the threads, one thread does all of an image: nothing waits, and the image stays in its
// cache.
template <class First, class Between, class Last>
void two_passes(const Shape& s, First&& first, Between&& between, Last&& last) {
  const auto chunked = [&](auto&& pass, int64_t i) {
    const int64_t start = i % s.chunks * CHUNK;
    pass(i / s.chunks, i % s.chunks, start, std::min(CHUNK, s.pixels - start));
  };
  if (s.images % torch::stable::get_num_threads() == 0) {
    torch::stable::parallel_for(0, s.images, grain(s.pixels * s.channels), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        for (int64_t k = 0; k < s.chunks; ++k) chunked(first, n * s.chunks + k);
        between(n);
        for (int64_t k = 0; k < s.chunks; ++k) chunked(last, n * s.chunks + k);
      }
    });
    return;
  }
  const auto over_chunks = [&](auto&& pass) {
    torch::stable::parallel_for(0, s.images * s.chunks, grain(std::min(CHUNK, s.pixels) * s.channels),
                                [&](int64_t i, int64_t end) {
                                  for (; i < end; ++i) chunked(pass, i);
                                });
  };
  over_chunks(first);
  torch::stable::parallel_for(0, s.images, grain(s.chunks * s.channels), [&](int64_t n, int64_t end) {
    for (; n < end; ++n) between(n);
  });
  over_chunks(last);
}

// Scratch of one call for all images: `kinds` sums of each channel and chunk, and 4 rows of numbers per channel.
template <class A>
struct Scratch {
  std::vector<A> memory;
  const Shape& s;
  const int64_t kinds;
  Scratch(const Shape& shape, int64_t kinds)
      : memory(shape.images * shape.channels * (kinds * shape.chunks + 4)), s(shape), kinds(kinds) {}
  A* sums(int64_t image, int64_t chunk) { return memory.data() + (image * s.chunks + chunk) * kinds * s.channels; }
  A* row(int64_t image, int64_t i) {
    return memory.data() + (s.images * s.chunks * kinds + image * 4 + i) * s.channels;
  }
  // Fills row 0 with mean minus shift and row 1 with rstd of every channel.
  void spread(int64_t image, const A* mean, const A* rstd, const A* shift) {
    for (int64_t g = 0; g < s.groups; ++g) {
      std::fill_n(row(image, 0) + g * s.span, s.span, mean[image * s.groups + g]);
      std::fill_n(row(image, 1) + g * s.span, s.span, rstd[image * s.groups + g]);
    }
    if (shift)
      for (int64_t c = 0; c < s.channels; ++c) row(image, 0)[c] -= shift[image * s.channels + c];
  }
};

// Mean and rstd of the groups of one image from the moments of its chunks.
template <class A>
void statistics(const Shape& s, int64_t image, const A* moments, const A* shift, double eps, A* mean, A* rstd) {
  std::vector<double> sums(2 * s.channels);
  double *level = sums.data(), *square = level + s.channels;
  combine_moments(moments, s.pixels, s.channels, level, square);
  for (int64_t c = 0; c < s.channels; ++c) {
    square[c] -= level[c] * level[c] / s.pixels;
    level[c] = level[c] / s.pixels + static_cast<double>(moments[2 * s.channels + c]);
    if (shift) level[c] += shift[image * s.channels + c];
  }
  for (int64_t g = 0; g < s.groups; ++g) {
    const double* of = level + g * s.span;
    const double centre = sum_of(of, s.span) / s.span;
    double total = sum_of(square + g * s.span, s.span);
    for (int64_t c = 0; c < s.span; ++c) total += s.pixels * (of[c] - centre) * (of[c] - centre);
    mean[image * s.groups + g] = static_cast<A>(centre);
    rstd[image * s.groups + g] = static_cast<A>(1.0 / std::sqrt(total / (double(s.span) * s.pixels) + eps));
  }
}

// Mean and rstd of a group of one image whose sums overflow A; they are computed from numbers scaled by SMALLER.
template <class T, class A>
void scaled_statistics(const Shape& s, const std::vector<Source<T>>& parts, int64_t image, int64_t group,
                       const A* shift, double eps, A* mean, A* rstd) {
  const double count = double(s.span) * s.pixels;
  const auto sum = [&](auto&& f) {
    double total = 0;
    for (int64_t channel = group * s.span; channel < (group + 1) * s.span; ++channel) {
      const auto& part = parts[channel >= parts[0].channels];
      const double more = shift ? static_cast<double>(shift[image * s.channels + channel]) : 0.0;
      for (int64_t p = image * s.pixels; p < (image + 1) * s.pixels; ++p)
        total += f(SMALLER<A> * (static_cast<double>(part.at(p)[channel - part.offset]) + more));
    }
    return total / count;
  };
  const double centre = sum([](double u) { return u; });
  const double square = sum([&](double u) { return (u - centre) * (u - centre); });
  *mean = static_cast<A>(centre / SMALLER<A>);
  *rstd = static_cast<A>(SMALLER<A> / std::sqrt(square + SMALLER<A> * SMALLER<A> * eps));
}

template <class T, bool SILU>
void forward(const Shape& s, const std::vector<Source<T>>& parts, const Wide<T>* shift, const Wide<T>* weight,
             const Wide<T>* bias, double eps, T* y, Wide<T>* mean, Wide<T>* rstd) {
  using A = Wide<T>;
  Scratch<A> scratch(s, 3);
  two_passes(
      s,
      [&](int64_t image, int64_t chunk, int64_t start, int64_t pixels) {
        for (const auto& part : parts) {
          A* sums = scratch.sums(image, chunk) + part.offset;
          moments<T>(s.near, part.at(image * s.pixels + start), pixels, part.channels, sums + 2 * s.channels, sums,
                     sums + s.channels);
        }
      },
      [&](int64_t image) {
        statistics(s, image, scratch.sums(image, 0), shift, eps, mean, rstd);
        for (int64_t g = image * s.groups; g < (image + 1) * s.groups; ++g)
          if (!(rstd[g] > 0))
            scaled_statistics(s, parts, image, g % s.groups, shift, eps, mean + g, rstd + g);
        scratch.spread(image, mean, rstd, shift);
      },
      [&](int64_t image, int64_t, int64_t start, int64_t pixels) {
        const Channels<A> of{scratch.row(image, 0), scratch.row(image, 1), weight, bias};
        const int64_t pixel = image * s.pixels + start;
        for (const auto& part : parts)
          normalise<T, SILU>(s.near, part.at(pixel), y + pixel * s.channels + part.offset, pixels, part.channels,
                             s.channels, of.from(part.offset));
      });
}

template <class T, bool SILU>
void backward(const Shape& s, const std::vector<Source<T>>& parts, const T* dy, const Wide<T>* shift,
              const Wide<T>* weight, const Wide<T>* bias, const Wide<T>* mean, const Wide<T>* rstd) {
  using A = Wide<T>;
  Scratch<A> scratch(s, 2);
  for (int64_t n = 0; n < s.images; ++n) scratch.spread(n, mean, rstd, shift);
  const auto of = [&](int64_t image) {
    return Channels<A>{scratch.row(image, 0), scratch.row(image, 1), weight, bias};
  };
  two_passes(
      s,
      [&](int64_t image, int64_t chunk, int64_t start, int64_t pixels) {
        A* sums = scratch.sums(image, chunk);
        const int64_t pixel = image * s.pixels + start;
        for (const auto& part : parts)
          adjoints<T, SILU>(s.near, part.at(pixel), dy + pixel * s.channels + part.offset, pixels, part.channels,
                            s.channels, of(image).from(part.offset), part.out_at(pixel), sums + part.offset,
                            sums + s.channels + part.offset);
      },
      [&](int64_t image) {
        std::vector<double> sums(2 * s.channels);
        combine(scratch.sums(image, 0), s.chunks, s.channels, sums.data());
        for (int64_t i = 0; i < 2 * s.groups; ++i) {  // the means of dn, then the means of dn n
          const int64_t at = i / s.groups * s.channels + i % s.groups * s.span;
          const A average = static_cast<A>(sum_of(sums.data() + at, s.span) / (double(s.span) * s.pixels));
          std::fill_n(scratch.row(image, 2) + at, s.span, average);
        }
      },
      [&](int64_t image, int64_t, int64_t start, int64_t pixels) {
        const int64_t pixel = image * s.pixels + start;
        for (const auto& part : parts)
          finish<T, SILU>(s.near, part.at(pixel), dy + pixel * s.channels + part.offset, pixels, part.channels,
                          s.channels, of(image).from(part.offset), scratch.row(image, 2) + part.offset,
                          scratch.row(image, 3) + part.offset, part.out_at(pixel));
      });
}

Shape checked(const Tensor& x, const std::optional<Tensor>& skip, const std::optional<Tensor>& shift,
              const Tensor& weight, const Tensor& bias, int64_t groups) {
  STD_TORCH_CHECK(x.dim() == 4 && x.is_cpu(), "x: wanted [N, C, H, W] on the CPU");
  const int64_t n = x.size(0), h = x.size(2), w = x.size(3);
  const int64_t more = skip ? (skip->dim() == 4 ? skip->size(1) : 0) : 0, channels = x.size(1) + more;
  check("x", x, x, x.scalar_type(), {n, x.size(1), h, w}, Layout::channels_last);
  if (skip) check("skip", *skip, x, x.scalar_type(), {n, more, h, w}, Layout::channels_last);
  if (shift) check_weights("shift", *shift, x, {n, channels});
  check_weights("weight", weight, x, {channels});
  check_weights("bias", bias, x, {channels});
  STD_TORCH_CHECK(groups > 0 && channels % groups == 0, "num_groups: wanted a divisor of ", channels, ", got ", groups);
  return {n, channels, h, w, h * w, groups, channels / groups, divide_up(h * w, CHUNK), h * w * channels <= NEAR};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> group_norm_silu_fwd(const Tensor& x, const std::optional<Tensor>& skip,
                                                       const std::optional<Tensor>& shift, const Tensor& weight,
                                                       const Tensor& bias, int64_t groups, double eps, bool silu) {
  const Shape s = checked(x, skip, shift, weight, bias, groups);
  Tensor y = output(x, {s.images, s.channels, s.height, s.width}, Layout::channels_last);
  Tensor mean = empty(x, wide_type(x), {s.images, groups}), rstd = empty(x, wide_type(x), {s.images, groups});
  by_dtype("x", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const Numbers<A> w(weight), b(bias), shifts(shift ? *shift : weight);
    (silu ? forward<T, true> : forward<T, false>)(s, sources<T>(x, skip), shift ? shifts.data() : nullptr, w.data(),
                                                  b.data(), eps, y.mutable_data_ptr<T>(), mean.mutable_data_ptr<A>(),
                                                  rstd.mutable_data_ptr<A>());
  });
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor> group_norm_silu_bwd(const Tensor& dy, const Tensor& x, const std::optional<Tensor>& skip,
                                               const std::optional<Tensor>& shift, const Tensor& weight,
                                               const Tensor& bias, const Tensor& mean, const Tensor& rstd,
                                               int64_t groups, bool silu) {
  const Shape s = checked(x, skip, shift, weight, bias, groups);
  check("dy", dy, x, x.scalar_type(), {s.images, s.channels, s.height, s.width}, Layout::channels_last);
  check("mean", mean, x, wide_type(x), {s.images, groups});
  check("rstd", rstd, x, wide_type(x), {s.images, groups});
  Tensor dx = output(x, {s.images, x.size(1), s.height, s.width}, Layout::channels_last);
  Tensor dskip = skip ? output(x, {s.images, skip->size(1), s.height, s.width}, Layout::channels_last)
                      : empty(x, x.scalar_type(), {0});
  by_dtype("x", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    auto parts = sources<T>(x, skip);
    parts[0].out = dx.mutable_data_ptr<T>();
    if (skip) parts[1].out = dskip.mutable_data_ptr<T>();
    const Numbers<A> w(weight), b(bias), shifts(shift ? *shift : weight);
    (silu ? backward<T, true> : backward<T, false>)(s, parts, dy.const_data_ptr<T>(), shift ? shifts.data() : nullptr,
                                                    w.data(), b.data(), mean.const_data_ptr<A>(),
                                                    rstd.const_data_ptr<A>());
  });
  return {dx, dskip};
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("group_norm_silu_fwd", TORCH_BOX(&group_norm_silu_fwd));
  m.impl("group_norm_silu_bwd", TORCH_BOX(&group_norm_silu_bwd));
}

}  // namespace diffexplain
