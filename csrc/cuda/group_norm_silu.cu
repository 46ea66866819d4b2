// GroupNorm, the shift before it and SiLU after it, channels-last, over one tensor or over two as if concatenated.
#include "group_norm_silu.cuh"

namespace diffexplain {
namespace {

constexpr int64_t BLOCKS_WANTED = 1024;  // about as many as a large card runs at once
constexpr int64_t CHUNK_LEAST = 64, CHUNK_MOST = 512;

struct Arguments {
  const Tensor& x;
  const std::optional<Tensor>& skip;
  const std::optional<Tensor>& shift;
  const Tensor &weight, &bias;
  int64_t groups;
};

void check_arguments(const Arguments& a) {
  STD_TORCH_CHECK(a.x.dim() == 4 && a.x.is_cuda(), "x: wanted [N, C, H, W] on a CUDA device");
  STD_TORCH_CHECK(!a.skip || a.skip->dim() == 4, "skip: wanted [N, C, H, W]");
  const int64_t n = a.x.size(0), h = a.x.size(2), w = a.x.size(3), more = a.skip ? a.skip->size(1) : 0;
  const int64_t channels = a.x.size(1) + more;
  check("x", a.x, a.x, a.x.scalar_type(), {n, a.x.size(1), h, w}, Layout::channels_last);
  if (a.skip) check("skip", *a.skip, a.x, a.x.scalar_type(), {n, more, h, w}, Layout::channels_last);
  if (a.shift) check_weights("shift", *a.shift, a.x, {n, channels});
  check_weights("weight", a.weight, a.x, {channels});
  check_weights("bias", a.bias, a.x, {channels});
  STD_TORCH_CHECK(a.groups > 0 && channels % a.groups == 0, "num_groups: wanted a divisor of ", channels, ", got ",
                  a.groups);
}

template <class T>
Numbers<T> numbers(const Tensor& tensor) {
  return {tensor.data_ptr(), tensor.scalar_type() == ScalarType::Float};
}

// Contiguous copies of the arguments that may have any stride; they live until the kernels are queued.
struct Dense {
  Tensor weight, bias;
  std::optional<Tensor> shift;
  explicit Dense(const Arguments& a)
      : weight(torch::stable::contiguous(a.weight)), bias(torch::stable::contiguous(a.bias)) {
    if (a.shift) shift = torch::stable::contiguous(*a.shift);
  }
};

template <class T>
Problem<T> problem(const Arguments& a, const Dense& dense, const Tensor& mean, const Tensor& rstd) {
  Problem<T> p{};
  p.sources[0] = {a.x.const_data_ptr<T>(), nullptr, a.x.size(1), 0, 0};
  if (a.skip) p.sources[1] = {a.skip->const_data_ptr<T>(), nullptr, a.skip->size(1), a.x.size(1), 0};
  if (dense.shift) p.shift = numbers<T>(*dense.shift);
  p.weight = numbers<T>(dense.weight);
  p.bias = numbers<T>(dense.bias);
  p.mean = mean.mutable_data_ptr<float>();
  p.rstd = rstd.mutable_data_ptr<float>();
  p.images = a.x.size(0);
  p.pixels = a.x.size(2) * a.x.size(3);
  p.channels = a.weight.numel();
  p.groups = a.groups;
  p.span = p.channels / p.groups;
  return p;
}

// Divides the work only by its shape, so that the same shape always gives the same bits.
template <class T, int N>
Tensor plan(Problem<T>& p, const Tensor& like) {
  for (Source<T>& source : p.sources) source.tiles = (source.channels + LANES<N> * N - 1) / (LANES<N> * N);
  STD_TORCH_CHECK(p.channels <= INT32_MAX, "x: wanted less than 2^31 channels, got ", p.channels);
  p.tiles = p.sources[0].tiles + p.sources[1].tiles;
  p.chunk = CHUNK_MOST;
  const auto chunks = [&] { return (p.pixels + p.chunk - 1) / p.chunk; };
  while (p.chunk > CHUNK_LEAST && p.images * p.tiles * chunks() < BLOCKS_WANTED) p.chunk /= 2;
  p.chunks = chunks();
  const int64_t sums = p.images * p.chunks * 2 * p.channels;
  Tensor workspace = empty(like, ScalarType::Float, {sums + 2 * p.images * p.groups});
  p.partial = workspace.mutable_data_ptr<float>();
  p.averages = p.partial + sums;
  return workspace;
}

template <class T>
bool vectors_fit(const Problem<T>& p) {
  constexpr int N = VECTOR_BYTES / sizeof(T);
  bool fit = aligned(p.dy) && aligned(p.y);
  for (const Source<T>& s : p.sources)
    fit = fit && s.channels % N == 0 && s.offset % N == 0 && aligned(s.data) && aligned(s.out);
  return fit;
}

template <class T, int N>
void forward(Problem<T> p, const Tensor& like, bool silu) {
  const Tensor workspace = plan<T, N>(p, like);
  const cudaStream_t stream = current_stream(like);
  const unsigned grid = blocks(p.images * p.chunks * p.tiles), groups = blocks(p.images * p.groups);
  group_norm_silu_moments_kernel<T, N><<<grid, THREADS, 0, stream>>>(p);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  group_norm_silu_statistics_kernel<T><<<groups, THREADS, 0, stream>>>(p);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  const auto last = silu ? group_norm_silu_fwd_kernel<T, N, true> : group_norm_silu_fwd_kernel<T, N, false>;
  last<<<grid, THREADS, 0, stream>>>(p);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <class T, int N>
void backward(Problem<T> p, const Tensor& like, bool silu) {
  const Tensor workspace = plan<T, N>(p, like);
  const cudaStream_t stream = current_stream(like);
  const unsigned grid = blocks(p.images * p.chunks * p.tiles), groups = blocks(p.images * p.groups);
  const auto first = silu ? group_norm_silu_adjoints_kernel<T, N, true> : group_norm_silu_adjoints_kernel<T, N, false>;
  first<<<grid, THREADS, 0, stream>>>(p);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  group_norm_silu_averages_kernel<T><<<groups, THREADS, 0, stream>>>(p);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  const auto last = silu ? group_norm_silu_bwd_kernel<T, N, true> : group_norm_silu_bwd_kernel<T, N, false>;
  last<<<grid, THREADS, 0, stream>>>(p);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// Calls f with a value of a number type that the kernels support.
template <class F>
void by_kernel_dtype(const Tensor& x, F&& f) {
  STD_TORCH_CHECK(x.scalar_type() != ScalarType::Double, "x: wanted float32, bfloat16 or float16, got float64");
  by_dtype("x", x, [&](auto zero) {
    if constexpr (!std::is_same_v<decltype(zero), double>) f(zero);
  });
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> group_norm_silu_fwd(const Tensor& x, const std::optional<Tensor>& skip,
                                                       const std::optional<Tensor>& shift, const Tensor& weight,
                                                       const Tensor& bias, int64_t groups, double eps, bool silu) {
  const Arguments arguments{x, skip, shift, weight, bias, groups};
  check_arguments(arguments);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const int64_t n = x.size(0);
  Tensor y = empty(x, x.scalar_type(), {n, weight.numel(), x.size(2), x.size(3)}, Layout::channels_last);
  Tensor mean = empty(x, ScalarType::Float, {n, groups}), rstd = empty(x, ScalarType::Float, {n, groups});
  if (y.numel() == 0) return {y, mean, rstd};
  const Dense dense(arguments);
  by_kernel_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    auto p = problem<T>(arguments, dense, mean, rstd);
    p.y = y.mutable_data_ptr<T>();
    p.eps = static_cast<float>(eps);
    vectors_fit(p) ? forward<T, VECTOR_BYTES / sizeof(T)>(p, x, silu) : forward<T, 1>(p, x, silu);
  });
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor> group_norm_silu_bwd(const Tensor& dy, const Tensor& x, const std::optional<Tensor>& skip,
                                               const std::optional<Tensor>& shift, const Tensor& weight,
                                               const Tensor& bias, const Tensor& mean, const Tensor& rstd,
                                               int64_t groups, bool silu) {
  const Arguments arguments{x, skip, shift, weight, bias, groups};
  check_arguments(arguments);
  const int64_t n = x.size(0), h = x.size(2), w = x.size(3);
  check("dy", dy, x, x.scalar_type(), {n, weight.numel(), h, w}, Layout::channels_last);
  check("mean", mean, x, ScalarType::Float, {n, groups});
  check("rstd", rstd, x, ScalarType::Float, {n, groups});
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  Tensor dx = empty(x, x.scalar_type(), {n, x.size(1), h, w}, Layout::channels_last);
  Tensor dskip = skip ? empty(x, x.scalar_type(), {n, skip->size(1), h, w}, Layout::channels_last)
                      : empty(x, x.scalar_type(), {0});
  if (dy.numel() == 0) return {dx, dskip};
  const Dense dense(arguments);
  by_kernel_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    auto p = problem<T>(arguments, dense, mean, rstd);
    p.dy = dy.const_data_ptr<T>();
    p.sources[0].out = dx.mutable_data_ptr<T>();
    if (skip) p.sources[1].out = dskip.mutable_data_ptr<T>();
    vectors_fit(p) ? backward<T, VECTOR_BYTES / sizeof(T)>(p, x, silu) : backward<T, 1>(p, x, silu);
  });
  return {dx, dskip};
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CUDA, m) {
  m.impl("group_norm_silu_fwd", TORCH_BOX(&group_norm_silu_fwd));
  m.impl("group_norm_silu_bwd", TORCH_BOX(&group_norm_silu_bwd));
}

}  // namespace diffexplain
