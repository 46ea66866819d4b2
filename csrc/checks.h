// Checks of the arguments of the CPU and CUDA kernels, in the form of diffexplain_fast/errors.py, and the switch over
// dtypes.
//
// The wrappers in ops/ check the arguments of a user. These checks protect a caller of the registered functions: with a
// wrong size or layout, a kernel would read memory outside of its tensors.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <optional>
#include <type_traits>

namespace diffexplain {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Numbers are stored as T and computed as Wide<T>.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

inline ScalarType wide_type(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

enum class Layout { rows, channels_last };

// Strides of a dense tensor; channels-last needs four sizes.
struct Strides {
  int64_t of[4] = {1, 1, 1, 1};
  Strides(const int64_t* sizes, int64_t dims, Layout layout) {
    int64_t step = 1;
    for (int64_t i = dims - 1; i >= 0; --i) {
      const int64_t axis = layout == Layout::rows ? i : (i == dims - 1 ? 1 : (i == 0 ? 0 : i + 1));  // C, W, H, N
      of[axis] = step;
      step *= sizes[axis];
    }
  }
};

// Refuses a tensor that is not of the dtype, on the device of `like`, of the sizes and dense in the layout.
inline void check(const char* name, const Tensor& tensor, const Tensor& like, ScalarType dtype,
                  std::initializer_list<int64_t> sizes, Layout layout = Layout::rows) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, name, ": wanted another dtype");
  STD_TORCH_CHECK(tensor.get_device_index() == like.get_device_index() && tensor.is_cpu() == like.is_cpu(), name,
                  ": wanted the device of the other tensors");
  const int64_t dims = static_cast<int64_t>(sizes.size());
  STD_TORCH_CHECK(tensor.dim() == dims, name, ": wanted ", dims, " dimensions, got ", tensor.dim());
  const Strides dense(sizes.begin(), dims, layout);
  const auto got = tensor.sizes(), strides = tensor.strides();
  for (int64_t i = 0; i < dims; ++i) {
    const int64_t wanted = sizes.begin()[i];
    STD_TORCH_CHECK(got[i] == wanted, name, ": wanted size ", wanted, " in dimension ", i, ", got ", got[i]);
    STD_TORCH_CHECK(wanted == 1 || strides[i] == dense.of[i], name, ": wanted ",
                    layout == Layout::rows ? "a contiguous tensor" : "a dense channels-last tensor");
  }
}

// Refuses per-channel weights unless they have the dtype of `x` or float32; any stride is accepted.
inline void check_weights(const char* name, const Tensor& weights, const Tensor& x,
                          std::initializer_list<int64_t> sizes) {
  const bool known = weights.scalar_type() == ScalarType::Float || weights.scalar_type() == x.scalar_type();
  STD_TORCH_CHECK(known, name, ": wanted the dtype of x, or float32");
  STD_TORCH_CHECK(weights.get_device_index() == x.get_device_index() && weights.is_cpu() == x.is_cpu(), name,
                  ": wanted the device of the other tensors");
  STD_TORCH_CHECK(weights.dim() == static_cast<int64_t>(sizes.size()), name, ": wanted ", sizes.size(), " dimensions");
  for (size_t i = 0; i < sizes.size(); ++i)
    STD_TORCH_CHECK(weights.size(i) == sizes.begin()[i], name, ": wanted size ", sizes.begin()[i]);
}

// Returns a dense tensor on the device of `like`; its memory is not set.
inline Tensor empty(const Tensor& like, ScalarType dtype, std::initializer_list<int64_t> sizes,
                    Layout layout = Layout::rows) {
  const int64_t dims = static_cast<int64_t>(sizes.size());
  const Strides dense(sizes.begin(), dims, layout);
  const auto device = like.device();
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      dims, sizes.begin(), dense.of, torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)),
      like.is_cpu() ? aoti_torch_device_type_cpu() : aoti_torch_device_type_cuda(), device.index(), &handle));
  return Tensor(handle);
}

// Calls f with a value of the tensor's number type.
template <class F>
void by_dtype(const char* name, const Tensor& tensor, F&& f) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return f(float());
    case ScalarType::Double:
      return f(double());
    case ScalarType::BFloat16:
      return f(torch::headeronly::BFloat16());
    case ScalarType::Half:
      return f(torch::headeronly::Half());
    default:
      STD_TORCH_CHECK(false, name, ": wanted float32, float64, bfloat16 or float16");
  }
}

}  // namespace diffexplain
