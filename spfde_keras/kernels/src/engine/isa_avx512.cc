// The kernels for AVX-512 (F, DQ, BW, VL); compiled with the flags that compilation.py names.
#define SPFDE_ISA avx512
#include "engine/activation_simd.h"
#include "engine/batch_norm_simd.h"
#include "engine/conv_simd.h"
#include "engine/isa_kernels.h"

namespace spfde {
const ConvKernels* avx512_conv_kernels(int lanes) {
  return ::avx512::conv_kernels<4, 8, 16>(lanes);
}
const BatchNormKernels* avx512_batch_norm_kernels() { return ::avx512::batch_norm_kernels<16>(); }
const ActivationKernels* avx512_activation_kernels() { return ::avx512::activation_kernels<16>(); }
}  // namespace spfde
