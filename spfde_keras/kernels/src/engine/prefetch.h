// Asks for memory ahead of its use.
//
// Compiled for one instruction set (SPFDE_ISA), so that fetch() can be inlined. Addresses need not
// be valid: nothing is read.
#ifndef SPFDE_ENGINE_PREFETCH_H_
#define SPFDE_ENGINE_PREFETCH_H_

#include <stddef.h>
#include <stdint.h>

#include "engine/simd.h"

namespace SPFDE_ISA {

// Pieces of memory that are read next, asked for a few lines at a time while something is computed:
// asking for all at once would mean waiting for them.
class Prefetcher {
 public:
  Prefetcher() = default;
  // `pieces` times `size` bytes, the first at `first`, `step` bytes from one to the next; then as
  // many at `second`, if there is one. `calls` calls of fetch() ask for all of them.
  Prefetcher(const float* first, const float* second, ptrdiff_t size, ptrdiff_t step, int pieces,
             int64_t calls)
      : line_((const char*)first), end_(line_ + size), second_((const char*)second), size_(size),
        step_(step), pieces_(pieces), left_(pieces) {
    const int64_t lines = (size / kLine + 1) * pieces * (second ? 2 : 1);
    at_once_ = int((lines + calls - 1) / calls);
  }

  SPFDE_INLINE void fetch() {
    for (int i = 0; i < at_once_; ++i) {
      __builtin_prefetch(line_, 0, kOuterCache);
      line_ += kLine;
      if (line_ >= end_) move_on();
    }
  }

 private:
  static constexpr ptrdiff_t kLine = 64;
  static constexpr int kOuterCache = 2;

  void move_on() {
    if (--left_ > 0) {
      line_ = end_ - size_ + step_;
    } else if (second_ != nullptr) {
      line_ = second_;
      second_ = nullptr;
      left_ = pieces_;
    } else {
      at_once_ = 0;
    }
    end_ = line_ + size_;
  }

  const char *line_ = nullptr, *end_ = nullptr, *second_ = nullptr;
  ptrdiff_t size_ = 0, step_ = 0;
  int pieces_ = 0, left_ = 0, at_once_ = 0;
};

}  // namespace SPFDE_ISA

#endif  // SPFDE_ENGINE_PREFETCH_H_
