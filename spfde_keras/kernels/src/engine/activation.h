// Activations and their gradients, on several threads. Arrays belong to whoever calls, and dst may
// be where src, or diff_dst, is.
#ifndef SPFDE_ENGINE_ACTIVATION_H_
#define SPFDE_ENGINE_ACTIVATION_H_

#include <cstdint>

#include "engine/isa.h"
#include "engine/threads.h"

namespace spfde {

// Gaussian error linear units: see ActivationKernels.
void gelu(const Isa& isa, const float* src, int64_t size, float* dst, const Threads& threads);
void gelu_gradient(const Isa& isa, const float* src, const float* diff_dst, int64_t size,
                   float* diff_src, const Threads& threads);

}  // namespace spfde

#endif  // SPFDE_ENGINE_ACTIVATION_H_
