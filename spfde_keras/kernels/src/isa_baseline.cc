#define SPFDE_ISA baseline
#include "engine.h"

namespace spfde {
const Engine* baseline_engine(int) {
  static const Engine engine = ::baseline::engine<4>();
  return &engine;
}
}  // namespace spfde
