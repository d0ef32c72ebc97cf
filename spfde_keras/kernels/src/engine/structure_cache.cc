// Finds a structure among those that were used last, or makes it.
#include "engine/structure_cache.h"

#include <algorithm>

namespace spfde {

std::shared_ptr<const Structure> StructureCache::get(const Geometry& geometry, int lanes,
                                                     const bool* mask) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto found = std::find_if(recent_.begin(), recent_.end(), [&](const auto& structure) {
    return structure->fits(geometry, lanes, mask);
  });
  if (found == recent_.end()) {
    if (recent_.size() == kMost) recent_.pop_back();
    recent_.push_back(std::make_shared<Structure>(geometry, direction_, lanes, mask));
    found = recent_.end() - 1;
  }
  std::rotate(recent_.begin(), found, found + 1);
  return recent_.front();
}

}  // namespace spfde
