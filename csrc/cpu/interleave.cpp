// Copies four phases of an image, which follow one another in the channels, to the pixels of each 2 x 2 block, and
// back.
#include "common.h"

namespace diffexplain {
namespace {

// Calls f for each run of C numbers, with its offsets in the phases [N, H, W, 4, C] and in the image [N, 2H, 2W, C].
template <class F>
void over_blocks(int64_t n, int64_t h, int64_t w, int64_t c, F&& f) {
  torch::stable::parallel_for(0, n * h, grain(4 * w * c), [&](int64_t row, int64_t end) {
    for (; row < end; ++row)  // a row of the low resolution is two rows of the high one
      for (int64_t j = 0; j < w; ++j)
        for (int64_t phase = 0; phase < 4; ++phase)
          f(((row * w + j) * 4 + phase) * c, ((2 * row + phase / 2) * 2 * w + 2 * j + phase % 2) * c);
  });
}

}  // namespace

Tensor interleave_fwd(const Tensor& parts) {
  STD_TORCH_CHECK(parts.dim() == 4 && parts.size(1) % 4 == 0 && parts.is_cpu(),
                  "parts: wanted [N, 4C, H, W] on the CPU");
  const int64_t n = parts.size(0), c = parts.size(1) / 4, h = parts.size(2), w = parts.size(3);
  check("parts", parts, parts, parts.scalar_type(), {n, 4 * c, h, w}, Layout::channels_last);
  Tensor y = output(parts, {n, c, 2 * h, 2 * w}, Layout::channels_last);
  by_dtype("parts", parts, [&](auto zero) {
    using T = decltype(zero);
    const T* low = parts.const_data_ptr<T>();
    T* high = y.mutable_data_ptr<T>();
    over_blocks(n, h, w, c,
                [&](int64_t phase, int64_t pixel) { std::memcpy(high + pixel, low + phase, c * sizeof(T)); });
  });
  return y;
}

Tensor interleave_bwd(const Tensor& dy) {
  STD_TORCH_CHECK(dy.dim() == 4 && dy.size(2) % 2 == 0 && dy.size(3) % 2 == 0 && dy.is_cpu(),
                  "dy: wanted [N, C, 2H, 2W] on the CPU");
  const int64_t n = dy.size(0), c = dy.size(1), h = dy.size(2) / 2, w = dy.size(3) / 2;
  check("dy", dy, dy, dy.scalar_type(), {n, c, 2 * h, 2 * w}, Layout::channels_last);
  Tensor parts = output(dy, {n, 4 * c, h, w}, Layout::channels_last);
  by_dtype("dy", dy, [&](auto zero) {
    using T = decltype(zero);
    const T* high = dy.const_data_ptr<T>();
    T* low = parts.mutable_data_ptr<T>();
    over_blocks(n, h, w, c,
                [&](int64_t phase, int64_t pixel) { std::memcpy(low + phase, high + pixel, c * sizeof(T)); });
  });
  return parts;
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("interleave_fwd", TORCH_BOX(&interleave_fwd));
  m.impl("interleave_bwd", TORCH_BOX(&interleave_bwd));
}

}  // namespace diffexplain
