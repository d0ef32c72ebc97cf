#define SPFDE_ISA baseline
#include "engine.h"
#include "normalizer.h"

namespace spfde {
const Engine* baseline_engine(int) {
  static const Engine engine = ::baseline::engine<4>();
  return &engine;
}
const Normalizer* baseline_normalizer() {
  static const Normalizer normalizer = ::baseline::normalizer<4>();
  return &normalizer;
}
}  // namespace spfde
