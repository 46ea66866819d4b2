// GroupNorm, the shift before it and SiLU after it, channels-last, over one tensor or two as if concatenated.
//
// Work is cut into chunks of CHUNK pixels of one image, whatever the number of threads, and partial sums are combined
// in a fixed order in float64: the same bits for any number of threads. Sums are of differences from a first pixel, so
// that a large mean does not eat the variance.
#include "common.h"

namespace diffexplain {
namespace {

constexpr int64_t CHUNK = 64;  // pixels: few enough for a sequential float32 sum

template <class T>
struct Source {  // one of the two tensors whose channels lie side by side
  const T* data;
  T* out;
  int64_t channels, offset;
};

template <class T>
CLONES void add_moments(const T* __restrict x, int64_t pixels, int64_t channels, const T* __restrict first,
                        Wide<T>* __restrict sum, Wide<T>* __restrict square) {
  using A = Wide<T>;
  for (int64_t p = 0; p < pixels; ++p) {
    const T* __restrict row = x + p * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const A d = static_cast<A>(row[c]) - static_cast<A>(first[c]);
      sum[c] += d;
      square[c] += d * d;
    }
  }
}

template <class T>
CLONES void normalise(const T* __restrict x, T* __restrict y, int64_t pixels, int64_t channels, int64_t stride,
                      const Wide<T>* __restrict mean, const Wide<T>* __restrict scale, const Wide<T>* __restrict bias,
                      bool silu) {
  using A = Wide<T>;
  for (int64_t p = 0; p < pixels; ++p) {
    const T* __restrict row = x + p * channels;
    T* __restrict out = y + p * stride;
    if (silu) {
      for (int64_t c = 0; c < channels; ++c) {
        const A v = (static_cast<A>(row[c]) - mean[c]) * scale[c] + bias[c];
        out[c] = static_cast<T>(v * sigmoid(v));
      }
    } else {
      for (int64_t c = 0; c < channels; ++c)
        out[c] = static_cast<T>((static_cast<A>(row[c]) - mean[c]) * scale[c] + bias[c]);
    }
  }
}

// dn = dy silu'(v) w at one element, and the normalised n it belongs to.
template <bool SILU, class A>
INLINE A adjoint(A dy, A n, A weight, A bias) {
  if constexpr (!SILU) return dy * weight;
  const A v = n * weight + bias, s = sigmoid(v);
  return dy * s * (A(1) + v * (A(1) - s)) * weight;
}

template <class T, bool SILU>
CLONES void add_adjoints(const T* __restrict x, const T* __restrict dy, int64_t pixels, int64_t channels,
                         int64_t stride, const Wide<T>* __restrict mean, const Wide<T>* __restrict rstd,
                         const Wide<T>* __restrict weight, const Wide<T>* __restrict bias, T* __restrict keep,
                         Wide<T>* __restrict sum, Wide<T>* __restrict product) {
  using A = Wide<T>;
  for (int64_t p = 0; p < pixels; ++p) {
    const T* __restrict row = x + p * channels;
    const T* __restrict grad = dy + p * stride;
    T* __restrict out = keep + p * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const A n = (static_cast<A>(row[c]) - mean[c]) * rstd[c];
      const A dn = adjoint<SILU>(static_cast<A>(grad[c]), n, weight[c], bias[c]);
      if constexpr (std::is_same_v<T, A>) out[c] = dn;  // read again by finish; lower precision computes it anew
      sum[c] += dn;
      product[c] += dn * n;
    }
  }
}

template <class T, bool SILU>
CLONES void finish(const T* __restrict x, const T* __restrict dy, int64_t pixels, int64_t channels, int64_t stride,
                   const Wide<T>* __restrict mean, const Wide<T>* __restrict rstd, const Wide<T>* __restrict weight,
                   const Wide<T>* __restrict bias, T* __restrict dx, const Wide<T>* __restrict first,
                   const Wide<T>* __restrict second) {
  using A = Wide<T>;
  for (int64_t p = 0; p < pixels; ++p) {
    const T* __restrict row = x + p * channels;
    const T* __restrict grad = dy + p * stride;
    T* __restrict out = dx + p * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const A n = (static_cast<A>(row[c]) - mean[c]) * rstd[c];
      A dn;
      if constexpr (std::is_same_v<T, A>)
        dn = out[c];
      else
        dn = adjoint<SILU>(static_cast<A>(grad[c]), n, weight[c], bias[c]);
      out[c] = static_cast<T>(rstd[c] * (dn - first[c] - n * second[c]));
    }
  }
}

struct Shape {
  int64_t images, channels, pixels, groups, width, chunks;
};

Shape shape_of(const Tensor& x, const Tensor& weight, int64_t groups) {
  const int64_t pixels = x.size(2) * x.size(3), channels = weight.numel();
  return {x.size(0), channels, pixels, groups, channels / groups, (pixels + CHUNK - 1) / CHUNK};
}

template <class T>
std::vector<Source<T>> sources(const Tensor& x, const std::optional<Tensor>& skip) {
  std::vector<Source<T>> out = {{x.const_data_ptr<T>(), nullptr, x.size(1), 0}};
  if (skip) out.push_back({skip->const_data_ptr<T>(), nullptr, skip->size(1), x.size(1)});
  return out;
}

// Calls f(image, chunk, first pixel, pixels) for every chunk, in parallel where there is enough to do.
template <class F>
void over_chunks(const Shape& s, F&& f) {
  const int64_t size = std::max<int64_t>(1, std::min(s.pixels, CHUNK) * s.channels);
  torch::stable::parallel_for(0, s.images * s.chunks, std::max<int64_t>(1, GRAIN / size),
                              [&](int64_t begin, int64_t end) {
                                for (int64_t i = begin; i < end; ++i) {
                                  const int64_t chunk = i % s.chunks, start = chunk * CHUNK;
                                  f(i / s.chunks, i, start, std::min(CHUNK, s.pixels - start));
                                }
                              });
}

// Per image and channel: the mean minus the shift, and rstd, so that n = (x - mean) rstd needs no shift.
template <class A>
struct PerChannel {
  std::vector<A> mean, rstd;
};

template <class A>
PerChannel<A> spread(const Shape& s, const A* mean, const A* rstd, const std::vector<A>& shift) {
  PerChannel<A> out{std::vector<A>(s.images * s.channels), std::vector<A>(s.images * s.channels)};
  for (int64_t n = 0; n < s.images; ++n)
    for (int64_t c = 0; c < s.channels; ++c) {
      const int64_t i = n * s.channels + c, g = n * s.groups + c / s.width;
      out.mean[i] = mean[g] - (shift.empty() ? A(0) : shift[i]);
      out.rstd[i] = rstd[g];
    }
  return out;
}

template <class T>
void statistics(const Shape& s, const std::vector<Source<T>>& parts, const std::vector<Wide<T>>& shift, double eps,
                Wide<T>* mean, Wide<T>* rstd) {
  using A = Wide<T>;
  std::vector<A> partial(s.images * s.chunks * 2 * s.channels, A(0));
  over_chunks(s, [&](int64_t image, int64_t i, int64_t start, int64_t pixels) {
    A* sums = partial.data() + i * 2 * s.channels;
    for (const auto& part : parts) {
      const T* whole = part.data + image * s.pixels * part.channels;
      add_moments<T>(whole + start * part.channels, pixels, part.channels, whole, sums + part.offset,
                     sums + s.channels + part.offset);
    }
  });
  std::vector<double> level(s.channels), square(s.channels);
  for (int64_t n = 0; n < s.images; ++n) {
    for (const auto& part : parts)
      for (int64_t c = 0; c < part.channels; ++c) {
        const int64_t channel = part.offset + c;
        double sum = 0, squares = 0;
        for (int64_t k = 0; k < s.chunks; ++k) {
          const A* sums = partial.data() + (n * s.chunks + k) * 2 * s.channels;
          sum += sums[channel];
          squares += sums[s.channels + channel];
        }
        const double first = static_cast<double>(static_cast<A>(part.data[n * s.pixels * part.channels + c]));
        level[channel] = first + sum / s.pixels + (shift.empty() ? 0.0 : double(shift[n * s.channels + channel]));
        square[channel] = squares - sum * sum / s.pixels;
      }
    for (int64_t g = 0; g < s.groups; ++g) {
      double centre = 0, total = 0;
      for (int64_t c = g * s.width; c < (g + 1) * s.width; ++c) centre += level[c];
      centre /= s.width;
      for (int64_t c = g * s.width; c < (g + 1) * s.width; ++c)
        total += square[c] + s.pixels * (level[c] - centre) * (level[c] - centre);
      mean[n * s.groups + g] = static_cast<A>(centre);
      rstd[n * s.groups + g] = static_cast<A>(1.0 / std::sqrt(total / (double(s.width) * s.pixels) + eps));
    }
  }
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> group_norm_silu_fwd(const Tensor& x, const std::optional<Tensor>& skip,
                                                       const std::optional<Tensor>& shift, const Tensor& weight,
                                                       const Tensor& bias, int64_t groups, double eps, bool silu) {
  const Shape s = shape_of(x, weight, groups);
  Tensor y = empty_channels_last(x, s.images, s.channels, x.size(2), x.size(3));
  const std::vector<int64_t> sizes = {s.images, groups};
  Tensor mean = torch::stable::new_empty(x, sizes, wide_type(x)),
         rstd = torch::stable::new_empty(x, sizes, wide_type(x));
  by_dtype("group_norm_silu", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const auto parts = sources<T>(x, skip);
    const auto shifts = shift ? numbers<A>(*shift) : std::vector<A>();
    const auto w = numbers<A>(weight), b = numbers<A>(bias);
    statistics<T>(s, parts, shifts, eps, mean.mutable_data_ptr<A>(), rstd.mutable_data_ptr<A>());
    auto per = spread<A>(s, mean.const_data_ptr<A>(), rstd.const_data_ptr<A>(), shifts);
    for (int64_t i = 0; i < s.images * s.channels; ++i) per.rstd[i] *= w[i % s.channels];
    T* __restrict out = y.mutable_data_ptr<T>();
    over_chunks(s, [&](int64_t image, int64_t, int64_t start, int64_t pixels) {
      for (const auto& part : parts) {
        const int64_t row = image * s.pixels + start, at = image * s.channels + part.offset;
        normalise<T>(part.data + row * part.channels, out + row * s.channels + part.offset, pixels, part.channels,
                     s.channels, per.mean.data() + at, per.rstd.data() + at, b.data() + part.offset, silu);
      }
    });
  });
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor> group_norm_silu_bwd(const Tensor& dy, const Tensor& x, const std::optional<Tensor>& skip,
                                               const std::optional<Tensor>& shift, const Tensor& weight,
                                               const Tensor& bias, const Tensor& mean, const Tensor& rstd,
                                               int64_t groups, bool silu) {
  const Shape s = shape_of(x, weight, groups);
  Tensor dx = empty_channels_last(x, s.images, x.size(1), x.size(2), x.size(3));
  const std::vector<int64_t> none = {0};
  Tensor dskip =
      skip ? empty_channels_last(x, s.images, skip->size(1), x.size(2), x.size(3)) : torch::stable::new_empty(x, none);
  by_dtype("group_norm_silu", x, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    auto parts = sources<T>(x, skip);
    parts[0].out = dx.mutable_data_ptr<T>();
    if (skip) parts[1].out = dskip.mutable_data_ptr<T>();
    const auto shifts = shift ? numbers<A>(*shift) : std::vector<A>();
    const auto w = numbers<A>(weight), b = numbers<A>(bias);
    const auto per = spread<A>(s, mean.const_data_ptr<A>(), rstd.const_data_ptr<A>(), shifts);
    const T* __restrict grad = dy.const_data_ptr<T>();
    std::vector<A> partial(s.images * s.chunks * 2 * s.channels, A(0));
    over_chunks(s, [&](int64_t image, int64_t i, int64_t start, int64_t pixels) {
      A* sums = partial.data() + i * 2 * s.channels;
      for (const auto& part : parts) {
        const int64_t row = image * s.pixels + start, at = image * s.channels + part.offset;
        const auto add = silu ? add_adjoints<T, true> : add_adjoints<T, false>;
        add(part.data + row * part.channels, grad + row * s.channels + part.offset, pixels, part.channels, s.channels,
            per.mean.data() + at, per.rstd.data() + at, w.data() + part.offset, b.data() + part.offset,
            part.out + row * part.channels, sums + part.offset, sums + s.channels + part.offset);
      }
    });
    std::vector<A> first(s.images * s.channels), second(s.images * s.channels);
    const double count = double(s.width) * s.pixels;
    for (int64_t n = 0; n < s.images; ++n)
      for (int64_t g = 0; g < s.groups; ++g) {
        double sum = 0, product = 0;
        for (int64_t k = 0; k < s.chunks; ++k) {
          const A* sums = partial.data() + (n * s.chunks + k) * 2 * s.channels;
          for (int64_t c = g * s.width; c < (g + 1) * s.width; ++c) sum += sums[c], product += sums[s.channels + c];
        }
        for (int64_t c = g * s.width; c < (g + 1) * s.width; ++c) {
          first[n * s.channels + c] = static_cast<A>(sum / count);
          second[n * s.channels + c] = static_cast<A>(product / count);
        }
      }
    over_chunks(s, [&](int64_t image, int64_t, int64_t start, int64_t pixels) {
      for (const auto& part : parts) {
        const int64_t row = image * s.pixels + start, at = image * s.channels + part.offset;
        const auto last = silu ? finish<T, true> : finish<T, false>;
        last(part.data + row * part.channels, grad + row * s.channels + part.offset, pixels, part.channels, s.channels,
             per.mean.data() + at, per.rstd.data() + at, w.data() + part.offset, b.data() + part.offset,
             part.out + row * part.channels, first.data() + at, second.data() + at);
      }
    });
  });
  return {dx, dskip};
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("group_norm_silu_fwd", TORCH_BOX(&group_norm_silu_fwd));
  m.impl("group_norm_silu_bwd", TORCH_BOX(&group_norm_silu_bwd));
}

}  // namespace diffexplain
