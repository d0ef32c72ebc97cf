#define SPFDE_ISA avx512
#include "engine.h"

namespace spfde {
const Engine* avx512_engine(int lanes) {
  static const Engine engines[] = {::avx512::engine<4>(), ::avx512::engine<8>(),
                                   ::avx512::engine<16>()};
  return &engines[lanes == 16 ? 2 : lanes == 8];
}
}  // namespace spfde
