// Classifier-free guidance and one linear sampler step in one pass, and their adjoint.
#include "common.cuh"

namespace diffexplain {
namespace {

// The coefficients have the order that ops/guided_step.py describes.
enum { GUIDANCE, SAMPLE, OUTPUT, BEFORE, NOISE, DATA_SAMPLE, DATA_OUTPUT, COEFFICIENTS = 8 };
constexpr int WIDE = VECTOR_BYTES / sizeof(float);

// All tensors are [count], the coefficients k [8]; without guidance, unconditional is null.
template <class T, int N>
__global__ void __launch_bounds__(THREADS)
    guided_step_fwd_kernel(const float* sample, const T* unconditional, const T* conditional, const float* before,
                           const float* noise, const float* k, float* following, float* data, int64_t count) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x) * N;
  if (at >= count) return;
  float x[N], o[N], u[N], d[N] = {}, z[N] = {}, next[N], clean[N];
  load(sample + at, x);
  load(conditional + at, o);
  if (before) load(before + at, d);
  if (noise) load(noise + at, z);
  if (unconditional) {
    load(unconditional + at, u);
#pragma unroll
    for (int i = 0; i < N; ++i) o[i] = u[i] + k[GUIDANCE] * (o[i] - u[i]);
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    next[i] = k[SAMPLE] * x[i] + k[OUTPUT] * o[i];
    if (before) next[i] += k[BEFORE] * d[i];  // only if it exists: with an infinite factor, 0 would become NaN
    if (noise) next[i] += k[NOISE] * z[i];
    clean[i] = k[DATA_SAMPLE] * x[i] + k[DATA_OUTPUT] * o[i];
  }
  store(following + at, next);
  store(data + at, clean);
}

// All tensors are [count], the coefficients k [8]; without guidance, dunconditional is null.
template <class T, int N>
__global__ void __launch_bounds__(THREADS)
    guided_step_bwd_kernel(const float* dfollowing, const float* ddata, const float* k, float* dsample,
                           T* dunconditional, T* dconditional, float* dbefore, int64_t count) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x) * N;
  if (at >= count) return;
  float f[N], d[N] = {}, dx[N], du[N], dc[N], db[N];
  load(dfollowing + at, f);
  if (ddata) load(ddata + at, d);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float o = k[OUTPUT] * f[i] + k[DATA_OUTPUT] * d[i];
    dx[i] = k[SAMPLE] * f[i] + k[DATA_SAMPLE] * d[i];
    db[i] = k[BEFORE] * f[i];
    du[i] = (1.0f - k[GUIDANCE]) * o;
    dc[i] = dunconditional ? k[GUIDANCE] * o : o;
  }
  store(dsample + at, dx);
  store(dbefore + at, db);
  store(dconditional + at, dc);
  if (dunconditional) store(dunconditional + at, du);
}

void check_like(const char* name, const Tensor& tensor, const Tensor& like, ScalarType dtype, int64_t times = 1) {
  STD_TORCH_CHECK(like.dim() == 4 && like.is_cuda(), name, ": wanted [B, c, h, w] on a CUDA device");
  check(name, tensor, like, dtype, {times * like.size(0), like.size(1), like.size(2), like.size(3)});
}

unsigned grid(int64_t count, int64_t width) { return blocks((count + THREADS * width - 1) / (THREADS * width)); }

}  // namespace

std::tuple<Tensor, Tensor> guided_step_fwd(const Tensor& sample, const Tensor& output,
                                           const std::optional<Tensor>& before, const std::optional<Tensor>& noise,
                                           const Tensor& coefficients) {
  const int64_t count = sample.numel();
  const bool guided = output.numel() != count;
  check_like("sample", sample, sample, ScalarType::Float);
  check_like("output", output, sample, output.scalar_type(), guided ? 2 : 1);
  if (before) check_like("before", *before, sample, ScalarType::Float);
  if (noise) check_like("noise", *noise, sample, ScalarType::Float);
  check("coefficients", coefficients, sample, ScalarType::Float, {COEFFICIENTS});
  const torch::stable::accelerator::DeviceGuard guard(sample.get_device_index());
  Tensor following = torch::stable::empty_like(sample), data = torch::stable::empty_like(sample);
  if (count == 0) return {following, data};
  by_dtype("output", output, [&](auto zero) {
    using T = decltype(zero);
    const T *first = output.const_data_ptr<T>(), *u = guided ? first : nullptr, *c = guided ? first + count : first;
    const float *x = sample.const_data_ptr<float>(), *k = coefficients.const_data_ptr<float>();
    const float *b = before ? before->const_data_ptr<float>() : nullptr,
                *z = noise ? noise->const_data_ptr<float>() : nullptr;
    float *next = following.mutable_data_ptr<float>(), *clean = data.mutable_data_ptr<float>();
    const bool fits = count % WIDE == 0 && aligned(x) && aligned(first, WIDE * sizeof(T)) && aligned(b) && aligned(z);
    const auto kernel = fits ? guided_step_fwd_kernel<T, WIDE> : guided_step_fwd_kernel<T, 1>;
    kernel<<<grid(count, fits ? WIDE : 1), THREADS, 0, current_stream(sample)>>>(x, u, c, b, z, k, next, clean, count);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {following, data};
}

std::tuple<Tensor, Tensor, Tensor> guided_step_bwd(const Tensor& dfollowing, const std::optional<Tensor>& ddata,
                                                   const Tensor& coefficients, bool guided, const Tensor& like) {
  const int64_t count = dfollowing.numel();
  check_like("dfollowing", dfollowing, dfollowing, ScalarType::Float);
  if (ddata) check_like("ddata", *ddata, dfollowing, ScalarType::Float);
  check("coefficients", coefficients, dfollowing, ScalarType::Float, {COEFFICIENTS});
  const torch::stable::accelerator::DeviceGuard guard(dfollowing.get_device_index());
  Tensor dsample = torch::stable::empty_like(dfollowing), dbefore = torch::stable::empty_like(dfollowing);
  Tensor doutput =
      empty(dfollowing, like.scalar_type(),
            {dfollowing.size(0) * (guided ? 2 : 1), dfollowing.size(1), dfollowing.size(2), dfollowing.size(3)});
  if (count == 0) return {dsample, doutput, dbefore};
  by_dtype("like", like, [&](auto zero) {
    using T = decltype(zero);
    T *first = doutput.mutable_data_ptr<T>(), *u = guided ? first : nullptr, *c = guided ? first + count : first;
    const float *f = dfollowing.const_data_ptr<float>(), *k = coefficients.const_data_ptr<float>();
    const float* d = ddata ? ddata->const_data_ptr<float>() : nullptr;
    float *x = dsample.mutable_data_ptr<float>(), *b = dbefore.mutable_data_ptr<float>();
    const bool fits = count % WIDE == 0 && aligned(f) && aligned(d);  // new tensors are always aligned
    const auto kernel = fits ? guided_step_bwd_kernel<T, WIDE> : guided_step_bwd_kernel<T, 1>;
    kernel<<<grid(count, fits ? WIDE : 1), THREADS, 0, current_stream(dfollowing)>>>(f, d, k, x, u, c, b, count);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {dsample, doutput, dbefore};
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CUDA, m) {
  m.impl("guided_step_fwd", TORCH_BOX(&guided_step_fwd));
  m.impl("guided_step_bwd", TORCH_BOX(&guided_step_bwd));
}

}  // namespace diffexplain
