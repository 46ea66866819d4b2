// Classifier-free guidance and one linear sampler step in one pass, and their adjoint.
#include "common.h"

namespace diffexplain {
namespace {

// The coefficients have the order that ops/guided_step.py describes.
enum { GUIDANCE, SAMPLE, OUTPUT, BEFORE, NOISE, DATA_SAMPLE, DATA_OUTPUT, COEFFICIENTS = 8 };

constexpr int64_t BLOCK = 1024;  // elements that stay in the L1 cache from one loop to the next

template <class A>
INLINE void add(A* __restrict sum, A factor, const A* __restrict x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += factor * x[i];
}

// All tensors are [count], the coefficients k [8]; without guidance, unconditional is null.
template <class A, class T>
CLONES void forward(const A* __restrict sample, const T* __restrict unconditional, const T* __restrict conditional,
                    const A* before, const A* noise, const A* k, A* __restrict following, A* __restrict data,
                    int64_t count) {
  const A guidance = k[GUIDANCE], of_sample = k[SAMPLE], of_output = k[OUTPUT], data_sample = k[DATA_SAMPLE],
          data_output = k[DATA_OUTPUT];
  const auto step = [&](int64_t i, A o) INLINED {
    following[i] = of_sample * sample[i] + of_output * o;
    data[i] = data_sample * sample[i] + data_output * o;
  };
  if (unconditional) {
    for (int64_t i = 0; i < count; ++i) {
      const A u = static_cast<A>(unconditional[i]);
      step(i, u + guidance * (static_cast<A>(conditional[i]) - u));
    }
  } else {
    for (int64_t i = 0; i < count; ++i) step(i, static_cast<A>(conditional[i]));
  }
  if (before) add(following, k[BEFORE], before, count);
  if (noise) add(following, k[NOISE], noise, count);
}

// All tensors are [count], the coefficients k [8]; without guidance, dunconditional is null.
template <class A, class T>
CLONES void backward(const A* __restrict dfollowing, const A* __restrict ddata, const A* k, A* __restrict dsample,
                     T* __restrict dunconditional, T* __restrict dconditional, A* __restrict dbefore, int64_t count) {
  const A guidance = k[GUIDANCE], of_sample = k[SAMPLE], of_output = k[OUTPUT], of_before = k[BEFORE],
          data_sample = k[DATA_SAMPLE], data_output = k[DATA_OUTPUT];
  A output[BLOCK];  // gradient of the guided output
  for (int64_t i = 0; i < count; ++i) {
    dsample[i] = of_sample * dfollowing[i];
    output[i] = of_output * dfollowing[i];
    dbefore[i] = of_before * dfollowing[i];
  }
  if (ddata) {
    add(dsample, data_sample, ddata, count);
    add(output, data_output, ddata, count);
  }
  const A share = dunconditional ? guidance : A(1);
  if (dunconditional)
    for (int64_t i = 0; i < count; ++i) dunconditional[i] = static_cast<T>((A(1) - guidance) * output[i]);
  for (int64_t i = 0; i < count; ++i) dconditional[i] = static_cast<T>(share * output[i]);
}

// Calls f(first, count) for blocks of the elements, in parallel if there are many.
template <class F>
void over_blocks(int64_t elements, F&& f) {
  torch::stable::parallel_for(0, divide_up(elements, BLOCK), grain(BLOCK), [&](int64_t block, int64_t end) {
    for (; block < end; ++block) f(block * BLOCK, std::min(BLOCK, elements - block * BLOCK));
  });
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

// Refuses a tensor unless its sizes are those of `like`, with the first one `times` as large.
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
      over_blocks(count, [&](int64_t i, int64_t n) {
        forward<A, T>(x + i, u ? u + i : u, c + i, b ? b + i : b, z ? z + i : z, k, next + i, clean + i, n);
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
      over_blocks(count, [&](int64_t i, int64_t n) {
        backward<A, T>(f + i, d ? d + i : d, k, x + i, u ? u + i : u, c + i, b + i, n);
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
