// Memory in which a thread packs and sums up.
//
// Owned by the thread: it stays until the thread ends, and grows.
#ifndef SPFDE_ENGINE_SCRATCH_H_
#define SPFDE_ENGINE_SCRATCH_H_

#include <cstddef>

namespace spfde {

// Room for so many floats, aligned to a huge page, with anything in it; what the last call in this
// thread returned is no longer there. Throws std::bad_alloc.
float* thread_scratch(size_t floats);

}  // namespace spfde

#endif  // SPFDE_ENGINE_SCRATCH_H_
