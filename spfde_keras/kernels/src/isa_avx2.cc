#define SPFDE_ISA avx2
#include "engine.h"
#include "normalizer.h"

namespace spfde {
const Engine* avx2_engine(int lanes) {
  static const Engine engines[] = {::avx2::engine<4>(), ::avx2::engine<8>()};
  return &engines[lanes == 8];
}
const Normalizer* avx2_normalizer() {
  static const Normalizer normalizer = ::avx2::normalizer<8>();
  return &normalizer;
}
}  // namespace spfde
