// The kernels for what every processor of the kind has: SSE2, NEON; compiled with the flags that
// compilation.py names.
#define SPFDE_ISA baseline
#include "engine/activation_simd.h"
#include "engine/batch_norm_simd.h"
#include "engine/conv_simd.h"
#include "engine/isa_kernels.h"

namespace spfde {
const ConvKernels* baseline_conv_kernels(int lanes) { return ::baseline::conv_kernels<4>(lanes); }
const BatchNormKernels* baseline_batch_norm_kernels() {
  return ::baseline::batch_norm_kernels<4>();
}
const ActivationKernels* baseline_activation_kernels() {
  return ::baseline::activation_kernels<4>();
}
}  // namespace spfde
