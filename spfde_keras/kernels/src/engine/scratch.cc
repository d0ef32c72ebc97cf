// One piece of memory for each thread, since a system's allocator hands out fresh pages each time;
// and in huge pages, where there are any: tiles jump through more memory than a processor keeps
// addresses of small ones.
#include "engine/scratch.h"

#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace spfde {
namespace {

constexpr size_t kHugePage = 2 << 20;

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  float* get(size_t floats) {
    const size_t bytes = (floats * sizeof(float) + kHugePage - 1) / kHugePage * kHugePage;
    if (bytes > bytes_) {
      std::free(memory_);
      bytes_ = 0;
      memory_ = static_cast<float*>(std::aligned_alloc(kHugePage, bytes));
      if (memory_ == nullptr) throw std::bad_alloc();
      bytes_ = bytes;
#ifdef MADV_HUGEPAGE
      madvise(memory_, bytes, MADV_HUGEPAGE);
#endif
    }
    return memory_;
  }

 private:
  size_t bytes_ = 0;
  float* memory_ = nullptr;
};

thread_local Scratch scratch;

}  // namespace

float* thread_scratch(size_t floats) { return scratch.get(floats); }

}  // namespace spfde
