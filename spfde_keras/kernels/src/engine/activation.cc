// Divides arrays among threads.
#include "engine/activation.h"

#include <algorithm>

#include "engine/geometry.h"

namespace spfde {
namespace {

constexpr int64_t kPiece = 4096;  // floats, so that what is divided is worth a thread

template <typename Compute>
void each_piece(int64_t size, const Threads& threads, Compute compute) {
  threads.each_chunk(divide_up(size, kPiece), [&](int64_t, int64_t first, int64_t last) {
    compute(first * kPiece, std::min(last * kPiece, size) - first * kPiece);
  });
}

}  // namespace

void gelu(const Isa& isa, const float* src, int64_t size, float* dst, const Threads& threads) {
  each_piece(size, threads, [&](int64_t first, int64_t count) {
    isa.activation_kernels()->gelu(src + first, count, dst + first);
  });
}

void gelu_gradient(const Isa& isa, const float* src, const float* diff_dst, int64_t size,
                   float* diff_src, const Threads& threads) {
  each_piece(size, threads, [&](int64_t first, int64_t count) {
    isa.activation_kernels()->gelu_gradient(src + first, diff_dst + first, count, diff_src + first);
  });
}

}  // namespace spfde
