// Shared by the CUDA kernels: vectors of numbers, sums over a block in a fixed order, and launches.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>
#include <tuple>

#include "../checks.h"

namespace diffexplain {

constexpr int THREADS = 256;
constexpr int VECTOR_BYTES = 16;  // the widest load of one thread

template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T of[N];
};

template <class T, int N>
__device__ __forceinline__ void load(const T* from, float (&to)[N]) {
  const Vector<T, N> got = *reinterpret_cast<const Vector<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = static_cast<float>(got.of[i]);
}

template <class T, int N>
__device__ __forceinline__ void store(T* to, const float (&from)[N]) {
  Vector<T, N> made;
#pragma unroll
  for (int i = 0; i < N; ++i) made.of[i] = static_cast<T>(from[i]);
  *reinterpret_cast<Vector<T, N>*>(to) = made;
}

// Returns to every thread the sums of two numbers over the block, added always in the same order.
__device__ __forceinline__ void block_sum(double& a, double& b) {
  __shared__ double sums[2][THREADS];
  const int t = threadIdx.x;
  __syncthreads();
  sums[0][t] = a;
  sums[1][t] = b;
  for (int half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) {
      sums[0][t] += sums[0][t + half];
      sums[1][t] += sums[1][t + half];
    }
  }
  __syncthreads();
  a = sums[0][0];
  b = sums[1][0];
}

inline bool aligned(const void* pointer, size_t bytes = VECTOR_BYTES) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

inline cudaStream_t current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

inline unsigned blocks(int64_t count) {
  STD_TORCH_CHECK(count <= INT32_MAX, "a tensor this large needs more blocks than a launch may have: ", count);
  return static_cast<unsigned>(count);
}

}  // namespace diffexplain
