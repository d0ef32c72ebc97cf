#include "isa.h"

namespace spfde {

#if defined(__x86_64__)
const Engine* avx512_engine(int lanes);
const Normalizer* avx512_normalizer();
const Engine* avx2_engine(int lanes);
const Normalizer* avx2_normalizer();
#endif
const Engine* baseline_engine(int lanes);
const Normalizer* baseline_normalizer();

namespace {

const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512", 16, avx512_engine, avx512_normalizer,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
     }},
    {"avx2", 8, avx2_engine, avx2_normalizer,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
    {"sse2", 4, baseline_engine, baseline_normalizer, [] { return true; }},
#elif defined(__aarch64__)
    {"neon", 4, baseline_engine, baseline_normalizer, [] { return true; }},
#else
    {"baseline", 4, baseline_engine, baseline_normalizer, [] { return true; }},
#endif
};

}  // namespace

const std::vector<const Isa*>& usable_isas() {
  static const std::vector<const Isa*> usable = [] {
    std::vector<const Isa*> found;
    for (const Isa& isa : kIsas)
      if (isa.runs_here()) found.push_back(&isa);
    return found;
  }();
  return usable;
}

const Isa* find_isa(const std::string& name) {
  for (const Isa* isa : usable_isas())
    if (name == isa->name) return isa;
  return nullptr;
}

}  // namespace spfde
