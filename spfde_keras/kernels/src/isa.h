// The instruction sets this file's processor may have, the best one it does have first.
#ifndef SPFDE_ISA_H_
#define SPFDE_ISA_H_

#include <string>
#include <vector>

#include "rows.h"
#include "sparse_conv.h"

namespace spfde {

// An instruction set that was compiled in.
struct Isa {
  const char* name;
  int lanes;                     // at most
  const Engine* (*engine)(int);  // for 4, 8, ... lanes
  const Normalizer* (*normalizer)();
  bool (*runs_here)();
};

// Those that run here, the fastest first; never empty.
const std::vector<const Isa*>& usable_isas();

// The one called `name`; null if it does not run here.
const Isa* find_isa(const std::string& name);

}  // namespace spfde

#endif  // SPFDE_ISA_H_
