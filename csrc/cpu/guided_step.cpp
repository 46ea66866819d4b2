// Classifier-free guidance and one linear sampler step in one pass, and their adjoint.
#include "common.h"

namespace diffexplain {
namespace {

// Order of the coefficients: see ops/guided_step.py.
enum { GUIDANCE, SAMPLE, OUTPUT, BEFORE, NOISE, DATA_SAMPLE, DATA_OUTPUT, COEFFICIENTS = 8 };

template <class A, class T>
CLONES void forward(const A* sample, const T* unconditional, const T* conditional, const A* before, const A* noise,
                    const A* k, A* following, A* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    A o = static_cast<A>(conditional[i]);
    if (unconditional) {
      const A u = static_cast<A>(unconditional[i]);
      o = u + k[GUIDANCE] * (o - u);
    }
    A next = k[SAMPLE] * sample[i] + k[OUTPUT] * o;
    if (before) next += k[BEFORE] * before[i];
    if (noise) next += k[NOISE] * noise[i];
    following[i] = next;
    data[i] = k[DATA_SAMPLE] * sample[i] + k[DATA_OUTPUT] * o;
  }
}

template <class A, class T>
CLONES void backward(const A* dfollowing, const A* ddata, const A* k, A* dsample, T* dunconditional, T* dconditional,
                     A* dbefore, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const A f = dfollowing[i], d = ddata ? ddata[i] : A(0);
    const A o = k[OUTPUT] * f + k[DATA_OUTPUT] * d;
    dsample[i] = k[SAMPLE] * f + k[DATA_SAMPLE] * d;
    dbefore[i] = k[BEFORE] * f;
    if (dunconditional) {
      dunconditional[i] = static_cast<T>((A(1) - k[GUIDANCE]) * o);
      dconditional[i] = static_cast<T>(k[GUIDANCE] * o);
    } else {
      dconditional[i] = static_cast<T>(o);
    }
  }
}

// Calls f with a value of the sample's type, float or double.
template <class F>
void by_sample(const Tensor& sample, F&& f) {
  switch (sample.scalar_type()) {
    case ScalarType::Float:
      return f(float());
    case ScalarType::Double:
      return f(double());
    default:
      STD_TORCH_CHECK(false, "sample: wanted float32 or float64");
  }
}

// Checks a tensor of any number of dimensions against another one's sizes, the first of them `times` as large.
void check_same(const char* name, const Tensor& tensor, const Tensor& like, ScalarType dtype, int64_t times = 1) {
  STD_TORCH_CHECK(tensor.dim() == 4 && like.dim() == 4, name, ": wanted [B, c, h, w]");
  check(name, tensor, like, dtype, {times * like.size(0), like.size(1), like.size(2), like.size(3)});
}

}  // namespace

std::tuple<Tensor, Tensor> guided_step_fwd(const Tensor& sample, const Tensor& output,
                                           const std::optional<Tensor>& before, const std::optional<Tensor>& noise,
                                           const Tensor& coefficients) {
  const bool guided = output.numel() != sample.numel();
  check_same("sample", sample, sample, sample.scalar_type());
  check_same("output", output, sample, output.scalar_type(), guided ? 2 : 1);
  if (before) check_same("before", *before, sample, sample.scalar_type());
  if (noise) check_same("noise", *noise, sample, sample.scalar_type());
  check("coefficients", coefficients, sample, sample.scalar_type(), {COEFFICIENTS});
  Tensor following = torch::stable::empty_like(sample), data = torch::stable::empty_like(sample);
  const int64_t count = sample.numel();
  by_sample(sample, [&](auto wide) {
    using A = decltype(wide);
    by_dtype("output", output, [&](auto zero) {
      using T = decltype(zero);
      const A *x = sample.const_data_ptr<A>(), *k = coefficients.const_data_ptr<A>();
      const A *b = before ? before->const_data_ptr<A>() : nullptr, *z = noise ? noise->const_data_ptr<A>() : nullptr;
      const T *u = guided ? output.const_data_ptr<T>() : nullptr,
              *c = output.const_data_ptr<T>() + (guided ? count : 0);
      A *next = following.mutable_data_ptr<A>(), *clean = data.mutable_data_ptr<A>();
      torch::stable::parallel_for(0, count, GRAIN, [&](int64_t i, int64_t end) {
        forward<A, T>(x + i, u ? u + i : u, c + i, b ? b + i : b, z ? z + i : z, k, next + i, clean + i, end - i);
      });
    });
  });
  return {following, data};
}

std::tuple<Tensor, Tensor, Tensor> guided_step_bwd(const Tensor& dfollowing, const std::optional<Tensor>& ddata,
                                                   const Tensor& coefficients, bool guided, const Tensor& like) {
  check_same("dfollowing", dfollowing, dfollowing, dfollowing.scalar_type());
  if (ddata) check_same("ddata", *ddata, dfollowing, dfollowing.scalar_type());
  check("coefficients", coefficients, dfollowing, dfollowing.scalar_type(), {COEFFICIENTS});
  Tensor dsample = torch::stable::empty_like(dfollowing), dbefore = torch::stable::empty_like(dfollowing);
  const int64_t rows = dfollowing.size(0) * (guided ? 2 : 1), count = dfollowing.numel();
  Tensor doutput =
      empty(dfollowing, like.scalar_type(), {rows, dfollowing.size(1), dfollowing.size(2), dfollowing.size(3)});
  by_sample(dfollowing, [&](auto wide) {
    using A = decltype(wide);
    by_dtype("like", like, [&](auto zero) {
      using T = decltype(zero);
      const A *f = dfollowing.const_data_ptr<A>(), *k = coefficients.const_data_ptr<A>();
      const A* d = ddata ? ddata->const_data_ptr<A>() : nullptr;
      T *u = guided ? doutput.mutable_data_ptr<T>() : nullptr,
        *c = doutput.mutable_data_ptr<T>() + (guided ? count : 0);
      A *x = dsample.mutable_data_ptr<A>(), *b = dbefore.mutable_data_ptr<A>();
      torch::stable::parallel_for(0, count, GRAIN, [&](int64_t i, int64_t end) {
        backward<A, T>(f + i, d ? d + i : d, k, x + i, u ? u + i : u, c + i, b + i, end - i);
      });
    });
  });
  return {dsample, doutput, dbefore};
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("guided_step_fwd", TORCH_BOX(&guided_step_fwd));
  m.impl("guided_step_bwd", TORCH_BOX(&guided_step_bwd));
}

}  // namespace diffexplain
