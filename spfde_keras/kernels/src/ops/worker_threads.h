// TensorFlow's threads, for the engine. They belong to the device.
#ifndef SPFDE_OPS_WORKER_THREADS_H_
#define SPFDE_OPS_WORKER_THREADS_H_

#include <atomic>
#include <functional>
#include <optional>

#include "engine/threads.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/platform/threadpool.h"

namespace spfde {

inline Threads threads_of(tensorflow::OpKernelContext* context) {
  const auto* pool = context->device()->tensorflow_cpu_worker_threads();
  return Threads{
      pool->num_threads, [pool](int64_t count, const std::function<void(int64_t)>& compute) {
        // TensorFlow begins somewhere in the middle.
        std::atomic<int64_t> next{0};
        pool->workers->ParallelFor(
            count,
            tsl::thread::ThreadPool::SchedulingParams(
                tsl::thread::ThreadPool::SchedulingStrategy::kFixedBlockSize, std::nullopt, 1),
            [&](int64_t first, int64_t last) {
              for (int64_t i = first; i < last; ++i) compute(next++);
            });
      }};
}

}  // namespace spfde

#endif  // SPFDE_OPS_WORKER_THREADS_H_
