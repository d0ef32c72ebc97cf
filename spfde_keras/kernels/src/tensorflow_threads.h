// TensorFlow's threads.
#ifndef SPFDE_TENSORFLOW_THREADS_H_
#define SPFDE_TENSORFLOW_THREADS_H_

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/platform/threadpool.h"
#include "threads.h"

namespace spfde {

inline Threads threads_of(tensorflow::OpKernelContext* context) {
  auto* pool = context->device()->tensorflow_cpu_worker_threads();
  return Threads{pool->num_threads,
                 [pool](int64_t count, const std::function<void(int64_t)>& compute) {
                   pool->workers->ParallelFor(
                       count,
                       tsl::thread::ThreadPool::SchedulingParams(
                           tsl::thread::ThreadPool::SchedulingStrategy::kFixedBlockSize,
                           std::nullopt, 1),
                       [&compute](int64_t first, int64_t last) {
                         for (int64_t i = first; i < last; ++i) compute(i);
                       });
                 }};
}

}  // namespace spfde

#endif  // SPFDE_TENSORFLOW_THREADS_H_
