// Asks the processor what it has.
#include "engine/isa.h"

#include "engine/isa_kernels.h"

namespace spfde {

namespace {

const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512", 16, avx512_conv_kernels, avx512_batch_norm_kernels, avx512_activation_kernels,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
     }},
    {"avx2", 8, avx2_conv_kernels, avx2_batch_norm_kernels, avx2_activation_kernels,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
    {"sse2", 4, baseline_conv_kernels, baseline_batch_norm_kernels, baseline_activation_kernels,
     [] { return true; }},
#elif defined(__aarch64__)
    {"neon", 4, baseline_conv_kernels, baseline_batch_norm_kernels, baseline_activation_kernels,
     [] { return true; }},
#else
    {"baseline", 4, baseline_conv_kernels, baseline_batch_norm_kernels, baseline_activation_kernels,
     [] { return true; }},
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
