// Activations that each instruction set offers, on arrays of any shape.
//
// Compiled for every instruction set; the rules of conv_kernels.h hold.
#ifndef SPFDE_ENGINE_ACTIVATION_KERNELS_H_
#define SPFDE_ENGINE_ACTIVATION_KERNELS_H_

#include <stdint.h>

namespace spfde {

struct ActivationKernels {
  // dst = src * P(src), where P is the distribution function of the standard normal distribution.
  void (*gelu)(const float* src, int64_t size, float* dst);
  // diff_src = diff_dst * (P(src) + src * its density).
  void (*gelu_gradient)(const float* src, const float* diff_dst, int64_t size, float* diff_src);
};

}  // namespace spfde

#endif  // SPFDE_ENGINE_ACTIVATION_KERNELS_H_
