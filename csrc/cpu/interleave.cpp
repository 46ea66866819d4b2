// Four phases of an image, one after another in the channels, to the pixels of every 2 x 2 block, and back.
#include "common.h"

namespace diffexplain {
namespace {

// Copies between phases [N, H, W, 4C] and image [N, 2H, 2W, C]; `gather` reads the image.
template <class T>
void copy_blocks(T* image, T* phases, int64_t n, int64_t h, int64_t w, int64_t c, bool gather) {
  torch::stable::parallel_for(0, n * h, std::max<int64_t>(1, GRAIN / (4 * w * c)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)  // a row of the low resolution is two rows of the high one
      for (int64_t j = 0; j < w; ++j)
        for (int64_t phase = 0; phase < 4; ++phase) {
          T* low = phases + ((row * w + j) * 4 + phase) * c;
          T* high = image + ((2 * row + phase / 2) * 2 * w + 2 * j + phase % 2) * c;
          std::memcpy(gather ? low : high, gather ? high : low, c * sizeof(T));
        }
  });
}

}  // namespace

Tensor interleave_fwd(const Tensor& parts) {
  const int64_t n = parts.size(0), c = parts.size(1) / 4, h = parts.size(2), w = parts.size(3);
  Tensor y = empty_channels_last(parts, n, c, 2 * h, 2 * w);
  by_dtype("interleave", parts, [&](auto zero) {
    using T = decltype(zero);
    copy_blocks<T>(y.mutable_data_ptr<T>(), const_cast<T*>(parts.const_data_ptr<T>()), n, h, w, c, false);
  });
  return y;
}

Tensor interleave_bwd(const Tensor& dy) {
  const int64_t n = dy.size(0), c = dy.size(1), h = dy.size(2) / 2, w = dy.size(3) / 2;
  Tensor parts = empty_channels_last(dy, n, 4 * c, h, w);
  by_dtype("interleave", dy, [&](auto zero) {
    using T = decltype(zero);
    copy_blocks<T>(const_cast<T*>(dy.const_data_ptr<T>()), parts.mutable_data_ptr<T>(), n, h, w, c, true);
  });
  return parts;
}

STABLE_TORCH_LIBRARY_IMPL(diffexplain_fast, CPU, m) {
  m.impl("interleave_fwd", TORCH_BOX(&interleave_fwd));
  m.impl("interleave_bwd", TORCH_BOX(&interleave_bwd));
}

}  // namespace diffexplain
