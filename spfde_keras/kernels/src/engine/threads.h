// How work is divided among threads.
//
// Knows no threads itself: whoever calls says how to run functions in parallel.
#ifndef SPFDE_ENGINE_THREADS_H_
#define SPFDE_ENGINE_THREADS_H_

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>

namespace spfde {

// `each` calls its second argument with each number below the first, on up to `threads` threads;
// they begin with the lowest numbers.
struct Threads {
  int threads;
  std::function<void(int64_t, const std::function<void(int64_t)>&)> each;

  // Into how many chunks `work` is divided: some for each thread, so that all end together though
  // one is disturbed.
  int64_t chunks(int64_t work) const { return std::min<int64_t>(work, threads * int64_t(4)); }

  // Calls compute(chunk, first, last) for each of chunks(work) chunks, none of them empty. They
  // become smaller, since nobody waits long for the end of a small one. What compute() throws is
  // thrown again once all have ended.
  void each_chunk(int64_t work,
                  const std::function<void(int64_t, int64_t, int64_t)>& compute) const {
    const int64_t count = chunks(work);
    auto begin = [&](int64_t chunk) {
      const int64_t left = count - chunk;
      return work - std::max(left, work * left * left / (count * count));
    };
    std::exception_ptr thrown;
    std::mutex mutex;
    each(count, [&](int64_t chunk) {
      try {
        compute(chunk, begin(chunk), begin(chunk + 1));
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        thrown = std::current_exception();
      }
    });
    if (thrown) std::rethrow_exception(thrown);
  }
};

}  // namespace spfde

#endif  // SPFDE_ENGINE_THREADS_H_
