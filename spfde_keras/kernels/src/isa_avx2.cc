#define SPFDE_ISA avx2
#include "engine.h"

namespace spfde {
const Engine* avx2_engine(int lanes) {
  static const Engine engines[] = {::avx2::engine<4>(), ::avx2::engine<8>()};
  return &engines[lanes == 8];
}
}  // namespace spfde
