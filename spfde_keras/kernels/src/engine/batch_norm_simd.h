// Batch normalization of rows, by blocks of channels whose values stay in registers.
//
// Compiled for one instruction set (SPFDE_ISA) and any number of lanes. May assume at least one
// row for moments, and the rules of conv_kernels.h. Owns nothing.
#ifndef SPFDE_ENGINE_BATCH_NORM_SIMD_H_
#define SPFDE_ENGINE_BATCH_NORM_SIMD_H_

#include <assert.h>

#include "engine/batch_norm_kernels.h"
#include "engine/operand_simd.h"
#include "engine/simd.h"

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): a few vectors fit into an int.
namespace SPFDE_ISA {

using spfde::BatchNormArgs;
using spfde::BatchNormKernels;
using spfde::ReluMask;

// Calls Operation<L, W>::run(work, c) for all channels: from c on, W vectors of L lanes.
template <int L, template <int, int> class Operation, class Work>
void each_block(const Work& work) {
  int c = 0;
  for (; c + 4 * L <= work.channels; c += 4 * L) Operation<L, 4>::run(work, c);
  for (; c + 2 * L <= work.channels; c += 2 * L) Operation<L, 2>::run(work, c);
  for (; c + L <= work.channels; c += L) Operation<L, 1>::run(work, c);
  for (; c + 4 <= work.channels; c += 4) Operation<4, 1>::run(work, c);
  for (; c < work.channels; ++c) Operation<1, 1>::run(work, c);
}

// W vectors of one value by channel.
template <int L, int W>
struct Block {
  typedef typename Lanes<L>::V V;
  V v[W];
  static Block zero() {
    Block block;
    for (int i = 0; i < W; ++i) block.v[i] = V{};
    return block;
  }
  static Block read(const float* p) {
    Block block;
    for (int i = 0; i < W; ++i) block.v[i] = load_any<L>(p + i * L);
    return block;
  }
  void write(float* p) const {
    for (int i = 0; i < W; ++i) store_any<L>(p + i * L, v[i]);
  }
};

// Independent sums hide how long an addition takes.
template <int W>
constexpr int sums_at_once() {
  return W == 4 ? 2 : 4;
}

template <int L, int W>
struct Moments {
  static void run(const BatchNormArgs& args, int c) {
    typedef typename Lanes<L>::V V;
    typedef Block<L, W> B;
    constexpr int S = sums_at_once<W>();
    assert(args.rows > 0);
    const float* x = args.src + c;
    const ptrdiff_t n = args.channels;
    B sums[S];
    for (int s = 0; s < S; ++s) sums[s] = B::zero();
    int64_t r = 0;
    for (; r + S <= args.rows; r += S)
      for (int s = 0; s < S; ++s)
        for (int i = 0; i < W; ++i) sums[s].v[i] += load_any<L>(x + (r + s) * n + i * L);
    for (; r < args.rows; ++r)
      for (int i = 0; i < W; ++i) sums[0].v[i] += load_any<L>(x + r * n + i * L);
    for (int s = 1; s < S; ++s)
      for (int i = 0; i < W; ++i) sums[0].v[i] += sums[s].v[i];
    B mean = sums[0];
    for (int i = 0; i < W; ++i) mean.v[i] *= 1.0f / float(args.rows) - V{};
    mean.write(args.sums + c);
    for (int s = 0; s < S; ++s) sums[s] = B::zero();
    for (r = 0; r + S <= args.rows; r += S)
      for (int s = 0; s < S; ++s)
        for (int i = 0; i < W; ++i) {
          const V d = load_any<L>(x + (r + s) * n + i * L) - mean.v[i];
          sums[s].v[i] += d * d;
        }
    for (; r < args.rows; ++r)
      for (int i = 0; i < W; ++i) {
        const V d = load_any<L>(x + r * n + i * L) - mean.v[i];
        sums[0].v[i] += d * d;
      }
    for (int s = 1; s < S; ++s)
      for (int i = 0; i < W; ++i) sums[0].v[i] += sums[s].v[i];
    sums[0].write(args.products + c);
  }
};

template <bool Relu, bool Residual>
struct Normalize {
  template <int L, int W>
  struct Of {
    static void run(const BatchNormArgs& args, int c) {
      typedef typename Lanes<L>::V V;
      typedef Block<L, W> B;
      const B scale = B::read(args.scale + c), shift = B::read(args.shift + c);
      for (int64_t r = 0; r < args.rows; ++r) {
        const ptrdiff_t at = r * args.channels + c;
        for (int i = 0; i < W; ++i) {
          V v = load_any<L>(args.src + at + i * L) * scale.v[i] + shift.v[i];
          if (Residual) v += load_any<L>(args.residual + at + i * L);
          store_any<L>(args.dst + at + i * L, Relu ? positive(v) : v);
        }
      }
    }
  };
};

// A vector of diff_dst, where the ReLU let values through.
template <int L, ReluMask M>
inline typename Lanes<L>::V passed(const BatchNormArgs& args, ptrdiff_t at, typename Lanes<L>::V x,
                                   typename Lanes<L>::V scale, typename Lanes<L>::V shift) {
  typedef typename Lanes<L>::V V;
  const V g = load_any<L>(args.diff_dst + at);
  if (M == ReluMask::kFromDst) {
    const V all = args.diff_dst_2 ? g + load_any<L>(args.diff_dst_2 + at) : g;
    return load_any<L>(args.dst + at) > V{} ? all : V{};
  }
  if (M == ReluMask::kRecomputed) return x * scale + shift > V{} ? g : V{};
  return g;
}

template <ReluMask M>
struct ReduceGradients {
  template <int L, int W>
  struct Of {
    static void run(const BatchNormArgs& args, int c) {
      typedef typename Lanes<L>::V V;
      typedef Block<L, W> B;
      const bool recomputed = M == ReluMask::kRecomputed;
      const B mean = B::read(args.mean + c);
      const B scale = recomputed ? B::read(args.scale + c) : mean;
      const B shift = recomputed ? B::read(args.shift + c) : mean;
      B sums = B::zero(), products = B::zero();
      for (int64_t r = 0; r < args.rows; ++r)
        for (int i = 0; i < W; ++i) {
          const ptrdiff_t at = r * args.channels + c + i * L;
          const V x = load_any<L>(args.src + at);
          const V g = passed<L, M>(args, at, x, scale.v[i], shift.v[i]);
          if (M == ReluMask::kFromDst) store_any<L>(args.diff_residual + at, g);
          sums.v[i] += g;
          products.v[i] += g * (x - mean.v[i]);
        }
      sums.write(args.sums + c);
      products.write(args.products + c);
    }
  };
};

struct Range {
  const Operand& operand;
  int64_t first, rows;
  int channels;
  float* dst;
};

template <Prologue P>
struct Materialize {
  template <int L, int W>
  struct Of {
    static void run(const Range& range, int c) {
      OperandReader<L, P> read[W];
      for (int i = 0; i < W; ++i) read[i] = OperandReader<L, P>(range.operand, c + i * L);
      const ptrdiff_t begin = range.first * range.channels;
      for (int64_t r = 0; r < range.rows; ++r)
        for (int i = 0; i < W; ++i)
          store_any<L>(range.dst + r * range.channels + c + i * L,
                       read[i](begin + r * range.channels));
    }
  };
};

template <int L>
void moments(const BatchNormArgs& args) {
  each_block<L, Moments>(args);
}

template <int L>
void normalize(const BatchNormArgs& args, bool relu) {
  if (relu && args.residual)
    each_block<L, Normalize<true, true>::template Of>(args);
  else if (relu)
    each_block<L, Normalize<true, false>::template Of>(args);
  else if (args.residual)
    each_block<L, Normalize<false, true>::template Of>(args);
  else
    each_block<L, Normalize<false, false>::template Of>(args);
}

template <int L>
void reduce_gradients(const BatchNormArgs& args, ReluMask mask) {
  switch (mask) {
    case ReluMask::kNone:
      return each_block<L, ReduceGradients<ReluMask::kNone>::template Of>(args);
    case ReluMask::kFromDst:
      return each_block<L, ReduceGradients<ReluMask::kFromDst>::template Of>(args);
    case ReluMask::kRecomputed:
      return each_block<L, ReduceGradients<ReluMask::kRecomputed>::template Of>(args);
  }
}

template <int L>
void materialize(const Operand& operand, int64_t first, int64_t rows, int channels, float* dst) {
  const Range range{operand, first, rows, channels, dst};
  switch (operand.prologue) {
    case Prologue::kNone:
      return each_block<L, Materialize<Prologue::kNone>::template Of>(range);
    case Prologue::kBatchNormRelu:
      return each_block<L, Materialize<Prologue::kBatchNormRelu>::template Of>(range);
    case Prologue::kBatchNormGrad:
      return each_block<L, Materialize<Prologue::kBatchNormGrad>::template Of>(range);
    case Prologue::kBatchNormReluGrad:
      return each_block<L, Materialize<Prologue::kBatchNormReluGrad>::template Of>(range);
  }
}

template <int L>
const BatchNormKernels* batch_norm_kernels() {
  static const BatchNormKernels kernels{moments<L>, normalize<L>, reduce_gradients<L>,
                                        materialize<L>};
  return &kernels;
}

}  // namespace SPFDE_ISA
// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

#endif  // SPFDE_ENGINE_BATCH_NORM_SIMD_H_
