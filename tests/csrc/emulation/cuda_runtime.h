// As much of CUDA as the kernels use, on the CPU: a block is THREADS threads with a barrier, blocks run one by one.
#pragma once

#include <barrier>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(threads)

using cudaStream_t = void*;
struct float2 {
  float x, y;
};
struct Index {
  unsigned x;
};
inline thread_local Index blockIdx, threadIdx;
inline std::barrier<>* barrier_of_the_block = nullptr;

inline void __syncthreads() { barrier_of_the_block->arrive_and_wait(); }
inline float __expf(float x) { return std::exp(x); }

template <class Kernel, class... Arguments>
void launch(Kernel kernel, unsigned blocks, int threads, Arguments... arguments) {
  std::barrier<> barrier(threads);
  barrier_of_the_block = &barrier;
  std::vector<std::thread> block;
  for (int t = 0; t < threads; ++t)
    block.emplace_back([&, t] {
      threadIdx.x = static_cast<unsigned>(t);
      for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        kernel(arguments...);
        barrier.arrive_and_wait();  // shared memory is the next block's from here
      }
    });
  for (std::thread& thread : block) thread.join();
}
