// A whole convolution, or one of its gradients, on several threads.
#ifndef SPFDE_RUN_H_
#define SPFDE_RUN_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "isa.h"
#include "structure.h"
#include "threads.h"

namespace spfde {

// Structures of one convolution by mask: several, since sub-nets and batch sizes come in turn.
class StructureCache {
 public:
  explicit StructureCache(Kind kind) : kind_(kind) {}
  std::shared_ptr<const Structure> get(const Geometry& geometry, int lanes, const bool* mask);

 private:
  static constexpr size_t kMost = 16;
  const Kind kind_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<const Structure>> recent_;  // the last one used comes first
};

// target = convolution of source, or, with a structure of kInputGradient, its input's gradient.
void convolve(const Isa& isa, const Structure& structure, const Geometry& geometry,
              const float* kernel, const Source& source, float* target, const Threads& threads);

// Both gradients; `backward` is the structure of kInputGradient.
void differentiate(const Isa& isa, const Structure& forward, const Structure& backward,
                   const Geometry& geometry, const float* kernel, const Source& source,
                   const Source& target_gradient, float* source_gradient, float* kernel_gradient,
                   const Threads& threads);

// kernel_gradient, of the kernel's shape, is 0 where the mask is. The same for any two runs on the
// same number of threads.
void correlate(const Isa& isa, const Structure& structure, const Geometry& geometry,
               const Source& source, const Source& target_gradient, float* kernel_gradient,
               const Threads& threads);

}  // namespace spfde

#endif  // SPFDE_RUN_H_
