// The instruction sets that were compiled in, and which of them this processor has.
//
// May be asked from several threads at once.
#ifndef SPFDE_ENGINE_ISA_H_
#define SPFDE_ENGINE_ISA_H_

#include <string>
#include <vector>

#include "engine/activation_kernels.h"
#include "engine/batch_norm_kernels.h"
#include "engine/conv_kernels.h"

namespace spfde {

// An instruction set that was compiled in.
struct Isa {
  const char* name;
  int lanes;                                // at most
  const ConvKernels* (*conv_kernels)(int);  // for 4, 8, ... lanes
  const BatchNormKernels* (*batch_norm_kernels)();
  const ActivationKernels* (*activation_kernels)();
  bool (*runs_here)();
};

// Those that run here, the fastest first; never empty.
const std::vector<const Isa*>& usable_isas();

// The one called `name`; null if it does not run here.
const Isa* find_isa(const std::string& name);

}  // namespace spfde

#endif  // SPFDE_ENGINE_ISA_H_
