#define SPFDE_ISA avx512
#include "engine.h"
#include "normalizer.h"

namespace spfde {
const Engine* avx512_engine(int lanes) {
  static const Engine engines[] = {::avx512::engine<4>(), ::avx512::engine<8>(),
                                   ::avx512::engine<16>()};
  return &engines[lanes == 16 ? 2 : lanes == 8];
}
const Normalizer* avx512_normalizer() {
  static const Normalizer normalizer = ::avx512::normalizer<16>();
  return &normalizer;
}
}  // namespace spfde
