// What each isa_*.cc defines. Like those files, this one knows nothing of the standard library.
#ifndef SPFDE_ENGINE_ISA_KERNELS_H_
#define SPFDE_ENGINE_ISA_KERNELS_H_

#include "engine/activation_kernels.h"
#include "engine/batch_norm_kernels.h"
#include "engine/conv_kernels.h"

namespace spfde {

// For 4 lanes, and up to as many as a vector of the instruction set has.
const ConvKernels* avx512_conv_kernels(int lanes);
const ConvKernels* avx2_conv_kernels(int lanes);
const ConvKernels* baseline_conv_kernels(int lanes);

const BatchNormKernels* avx512_batch_norm_kernels();
const BatchNormKernels* avx2_batch_norm_kernels();
const BatchNormKernels* baseline_batch_norm_kernels();

const ActivationKernels* avx512_activation_kernels();
const ActivationKernels* avx2_activation_kernels();
const ActivationKernels* baseline_activation_kernels();

}  // namespace spfde

#endif  // SPFDE_ENGINE_ISA_KERNELS_H_
