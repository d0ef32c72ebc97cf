// The structures that one operator used last.
//
// May be asked from several threads at once.
#ifndef SPFDE_ENGINE_STRUCTURE_CACHE_H_
#define SPFDE_ENGINE_STRUCTURE_CACHE_H_

#include <memory>
#include <mutex>
#include <vector>

#include "engine/structure.h"

namespace spfde {

// Structures of one convolution by mask: several, since sub-nets and batch sizes come in turn.
class StructureCache {
 public:
  explicit StructureCache(Direction direction) : direction_(direction) {}
  std::shared_ptr<const Structure> get(const Geometry& geometry, int lanes, const bool* mask);

 private:
  static constexpr size_t kMost = 16;
  const Direction direction_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<const Structure>> recent_;  // the last one used comes first
};

}  // namespace spfde

#endif  // SPFDE_ENGINE_STRUCTURE_CACHE_H_
