// Device code of GroupNorm, the shift before it and SiLU after it, channels-last, over one tensor or two concatenated.
//
// A block takes a chunk of the pixels of one image and a tile of channels of one source; a thread takes a vector of N
// channels of every ROWS-th pixel. Partial results go to a workspace [images, chunks, 2, channels], which one block per
// group then combines in a fixed order: no atomics, the same bits every time.
#pragma once

#include "common.cuh"

namespace diffexplain {

template <class T>
struct Source {  // one of the two tensors whose channels are concatenated
  const T* data;  // [images, pixels, channels]
  T* out;         // the same
  int64_t channels, offset, tiles;
};

// Per-channel numbers in the dtype of the activations or in float32.
template <class T>
struct Numbers {
  const void* data;
  bool wide;
  __device__ float operator[](int64_t i) const {
    return wide ? static_cast<const float*>(data)[i] : static_cast<float>(static_cast<const T*>(data)[i]);
  }
};

template <class T>
struct Problem {
  Source<T> sources[2];
  const T* dy;                     // [images, pixels, channels]
  T* y;                            // the same
  Numbers<T> shift, weight, bias;  // shift [images, channels], weight and bias [channels]
  float *mean, *rstd;              // [images, groups]
  float* partial;                  // [images, chunks, 2, channels]
  float* averages;                 // [2, images, groups]: means of dn and of dn n
  int64_t images, pixels, channels, groups, span, chunk, chunks, tiles;
  float eps;
  __device__ int64_t group_of(int64_t image, int64_t channel) const {
    return image * groups + static_cast<unsigned>(channel) / static_cast<unsigned>(span);
  }
};

// e^x: as exact as torch's if the result is stored in float32, and faster if it is rounded to a lower precision.
template <class T>
__device__ __forceinline__ float exponential(float x) {
  if constexpr (sizeof(T) == sizeof(float)) return expf(x);
  return __expf(x);
}

// The lanes of a vector kernel read 128 bytes of a pixel. Numbers that are not aligned are read one per thread, 32 per
// warp.
template <int N>
constexpr int LANES = N > 1 ? 8 : 32;
template <int N>
constexpr int ROWS = THREADS / LANES<N>;

// The part of the work of one thread.
template <class T, int N>
struct Place {
  Source<T> source;
  int64_t image, chunk, begin, end, channel;  // channel: the first of the thread, counted in the source
  bool inside;
  __device__ explicit Place(const Problem<T>& p) {
    const unsigned tiles = static_cast<unsigned>(p.tiles), chunks = static_cast<unsigned>(p.chunks);
    const unsigned rest = blockIdx.x / tiles;  // 32 bits divide fast; the launch has checked that they are enough
    int64_t tile = blockIdx.x % tiles;
    chunk = rest % chunks;
    image = rest / chunks;
    const bool second = tile >= p.sources[0].tiles;
    source = second ? p.sources[1] : p.sources[0];
    if (second) tile -= p.sources[0].tiles;
    channel = (tile * LANES<N> + threadIdx.x % LANES<N>)*N;
    inside = channel < source.channels;
    const int64_t last = (chunk + 1) * p.chunk;
    begin = chunk * p.chunk + threadIdx.x / LANES<N>;
    end = last < p.pixels ? last : p.pixels;
  }
  __device__ int64_t in(const Problem<T>& p, int64_t pixel) const {
    return (image * p.pixels + pixel) * source.channels + channel;
  }
  __device__ int64_t out(const Problem<T>& p, int64_t pixel) const {
    return (image * p.pixels + pixel) * p.channels + source.offset + channel;
  }
};

// Per-channel numbers of a thread: n = (x - mean) rstd, where mean has the shift subtracted.
template <class T, int N>
struct Channels {
  float mean[N], rstd[N], weight[N], bias[N];
  __device__ Channels(const Problem<T>& p, const Place<T, N>& at) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int64_t c = at.source.offset + at.channel + i, group = p.group_of(at.image, c);
      mean[i] = p.mean[group] - (p.shift.data ? p.shift[at.image * p.channels + c] : 0.0f);
      rstd[i] = p.rstd[group];
      weight[i] = p.weight[c];
      bias[i] = p.bias[c];
    }
  }
};

// Adds up two numbers per channel over the rows of the block, from the first to the last; the first row then has the
// sums.
template <int N>
__device__ __forceinline__ void sum_rows(float (&a)[N], float (&b)[N]) {
  __shared__ float sums[2][N][THREADS];
  const int t = threadIdx.x;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    sums[0][i][t] = a[i];
    sums[1][i][t] = b[i];
  }
  for (int half = THREADS / 2; half >= LANES<N>; half /= 2) {
    __syncthreads();
    if (t < half) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        sums[0][i][t] += sums[0][i][t + half];
        sums[1][i][t] += sums[1][i][t + half];
      }
    }
  }
  if (t < LANES<N>) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      a[i] = sums[0][i][t];
      b[i] = sums[1][i][t];
    }
  }
}

template <class T, int N>
__device__ __forceinline__ void write_partial(const Problem<T>& p, const Place<T, N>& at, const float (&a)[N],
                                              const float (&b)[N]) {
  if (threadIdx.x >= LANES<N> || !at.inside) return;
  float* to = p.partial + (at.image * p.chunks + at.chunk) * 2 * p.channels + at.source.offset + at.channel;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    to[i] = a[i];
    to[p.channels + i] = b[i];
  }
}

// Mean of a chunk and sum of squared deviations from it, per channel. The sums are of differences from the chunk's
// first pixel, so that a large mean does not cost the digits of the variance.
template <class T, int N>
__global__ void __launch_bounds__(THREADS) group_norm_silu_moments_kernel(const Problem<T> p) {
  const Place<T, N> at(p);
  float first[N] = {}, sum[N] = {}, square[N] = {};
  if (at.inside) {
    load(at.source.data + at.in(p, at.chunk * p.chunk), first);
    for (int64_t pixel = at.begin; pixel < at.end; pixel += ROWS<N>) {
      float x[N];
      load(at.source.data + at.in(p, pixel), x);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float d = x[i] - first[i];
        sum[i] += d;
        square[i] += d * d;
      }
    }
  }
  sum_rows(sum, square);
  const float count = static_cast<float>(at.end - at.chunk * p.chunk);
  if (threadIdx.x < LANES<N> && at.inside) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float away = sum[i] / count;
      const float spread = square[i] - sum[i] * away;
      square[i] = spread < 0.0f ? 0.0f : spread;  // a NaN stays, which an overflow of the squares gives
      sum[i] = first[i] + away;
      if (p.shift.data) sum[i] += p.shift[at.image * p.channels + at.source.offset + at.channel + i];
    }
  }
  write_partial(p, at, sum, square);
}

// The two partial numbers of item i of a group, and the number of pixels that they cover.
template <class T>
__device__ __forceinline__ float2 partial_at(const Problem<T>& p, int64_t image, int64_t group, int64_t i,
                                             double& count) {
  const int64_t chunk = i / p.span, begin = chunk * p.chunk;
  const float* from = p.partial + (image * p.chunks + chunk) * 2 * p.channels + group * p.span + i % p.span;
  count = static_cast<double>(begin + p.chunk < p.pixels ? p.chunk : p.pixels - begin);
  return {from[0], from[p.channels]};
}

template <class T>
__global__ void __launch_bounds__(THREADS) group_norm_silu_statistics_kernel(const Problem<T> p) {
  const int64_t image = blockIdx.x / p.groups, group = blockIdx.x % p.groups, items = p.chunks * p.span;
  const double all = static_cast<double>(p.pixels) * p.span;
  double count, centre = 0, square = 0, unused = 0;
  for (int64_t i = threadIdx.x; i < items; i += THREADS) {
    const float mean = partial_at(p, image, group, i, count).x;
    centre += count * mean;
  }
  block_sum(centre, unused);
  centre /= all;
  for (int64_t i = threadIdx.x; i < items; i += THREADS) {
    const float2 got = partial_at(p, image, group, i, count);
    const double away = got.x - centre;
    square += got.y + count * away * away;
  }
  block_sum(square, unused);
  if (threadIdx.x == 0) {
    p.mean[blockIdx.x] = static_cast<float>(centre);
    // rstd is not finite if squares overflow float32: with 0, the output would silently be only the bias.
    p.rstd[blockIdx.x] = square > 1.7e308 ? NAN : static_cast<float>(1.0 / sqrt(square / all + p.eps));
  }
}

template <class T, int N, bool SILU>
__global__ void __launch_bounds__(THREADS) group_norm_silu_fwd_kernel(const Problem<T> p) {
  const Place<T, N> at(p);
  if (!at.inside) return;
  const Channels<T, N> c(p, at);
  for (int64_t pixel = at.begin; pixel < at.end; pixel += ROWS<N>) {
    float x[N];
    load(at.source.data + at.in(p, pixel), x);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float v = (x[i] - c.mean[i]) * c.rstd[i] * c.weight[i] + c.bias[i];
      x[i] = SILU ? v / (1.0f + exponential<T>(-v)) : v;
    }
    store(p.y + at.out(p, pixel), x);
  }
}

// Replaces x and dy of a thread's channels at one pixel by n and dn = dy silu'(v) w.
template <class T, int N, bool SILU>
__device__ __forceinline__ void adjoint(const Channels<T, N>& c, float (&x)[N], float (&dy)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    x[i] = (x[i] - c.mean[i]) * c.rstd[i];
    dy[i] *= c.weight[i];
    if constexpr (SILU) {
      const float v = x[i] * c.weight[i] + c.bias[i], s = 1.0f / (1.0f + exponential<T>(-v));
      dy[i] *= s * (1.0f + v * (1.0f - s));
    }
  }
}

template <class T, int N, bool SILU>
__global__ void __launch_bounds__(THREADS) group_norm_silu_adjoints_kernel(const Problem<T> p) {
  const Place<T, N> at(p);
  float sum[N] = {}, product[N] = {};
  if (at.inside) {
    const Channels<T, N> c(p, at);
    for (int64_t pixel = at.begin; pixel < at.end; pixel += ROWS<N>) {
      float n[N], dn[N];
      load(at.source.data + at.in(p, pixel), n);
      load(p.dy + at.out(p, pixel), dn);
      adjoint<T, N, SILU>(c, n, dn);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        sum[i] += dn[i];
        product[i] += dn[i] * n[i];
      }
    }
  }
  sum_rows(sum, product);
  write_partial(p, at, sum, product);
}

template <class T>
__global__ void __launch_bounds__(THREADS) group_norm_silu_averages_kernel(const Problem<T> p) {
  const int64_t image = blockIdx.x / p.groups, group = blockIdx.x % p.groups, items = p.chunks * p.span;
  const double all = static_cast<double>(p.pixels) * p.span;
  double unused, sum = 0, product = 0;
  for (int64_t i = threadIdx.x; i < items; i += THREADS) {
    const float2 got = partial_at(p, image, group, i, unused);
    sum += got.x;
    product += got.y;
  }
  block_sum(sum, product);
  if (threadIdx.x == 0) {
    p.averages[blockIdx.x] = static_cast<float>(sum / all);
    p.averages[p.images * p.groups + blockIdx.x] = static_cast<float>(product / all);
  }
}

template <class T, int N, bool SILU>
__global__ void __launch_bounds__(THREADS) group_norm_silu_bwd_kernel(const Problem<T> p) {
  const Place<T, N> at(p);
  if (!at.inside) return;
  const Channels<T, N> c(p, at);
  float first[N], second[N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int64_t group = p.group_of(at.image, at.source.offset + at.channel + i);
    first[i] = p.averages[group];
    second[i] = p.averages[p.images * p.groups + group];
  }
  for (int64_t pixel = at.begin; pixel < at.end; pixel += ROWS<N>) {
    float n[N], dn[N];
    load(at.source.data + at.in(p, pixel), n);
    load(p.dy + at.out(p, pixel), dn);
    adjoint<T, N, SILU>(c, n, dn);
#pragma unroll
    for (int i = 0; i < N; ++i) dn[i] = c.rstd[i] * (dn[i] - first[i] - n[i] * second[i]);
    store(at.source.out + at.in(p, pixel), dn);
  }
}

}  // namespace diffexplain
