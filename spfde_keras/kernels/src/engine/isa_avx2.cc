// The kernels for AVX2 and FMA; compiled with the flags that compilation.py names.
#define SPFDE_ISA avx2
#include "engine/activation_simd.h"
#include "engine/batch_norm_simd.h"
#include "engine/conv_simd.h"
#include "engine/isa_kernels.h"

namespace spfde {
const ConvKernels* avx2_conv_kernels(int lanes) { return ::avx2::conv_kernels<4, 8>(lanes); }
const BatchNormKernels* avx2_batch_norm_kernels() { return ::avx2::batch_norm_kernels<8>(); }
const ActivationKernels* avx2_activation_kernels() { return ::avx2::activation_kernels<8>(); }
}  // namespace spfde
