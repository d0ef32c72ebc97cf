// Batch normalization for one instruction set (SPFDE_ISA).
#ifndef SPFDE_NORMALIZER_H_
#define SPFDE_NORMALIZER_H_

#include "reader.h"
#include "rows.h"
#include "simd.h"

namespace SPFDE_ISA {

using spfde::Normalizer;
using spfde::Passing;
using spfde::Rows;

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
  static void run(const Rows& rows, int c) {
    typedef typename Lanes<L>::V V;
    typedef Block<L, W> B;
    constexpr int S = sums_at_once<W>();
    const float* x = rows.x + c;
    const ptrdiff_t n = rows.channels;
    B sums[S];
    for (int s = 0; s < S; ++s) sums[s] = B::zero();
    int64_t r = 0;
    for (; r + S <= rows.count; r += S)
      for (int s = 0; s < S; ++s)
        for (int i = 0; i < W; ++i) sums[s].v[i] += load_any<L>(x + (r + s) * n + i * L);
    for (; r < rows.count; ++r)
      for (int i = 0; i < W; ++i) sums[0].v[i] += load_any<L>(x + r * n + i * L);
    for (int s = 1; s < S; ++s)
      for (int i = 0; i < W; ++i) sums[0].v[i] += sums[s].v[i];
    B mean = sums[0];
    for (int i = 0; i < W; ++i) mean.v[i] *= 1.0f / float(rows.count) - V{};
    mean.write(rows.sums + c);
    for (int s = 0; s < S; ++s) sums[s] = B::zero();
    for (r = 0; r + S <= rows.count; r += S)
      for (int s = 0; s < S; ++s)
        for (int i = 0; i < W; ++i) {
          const V d = load_any<L>(x + (r + s) * n + i * L) - mean.v[i];
          sums[s].v[i] += d * d;
        }
    for (; r < rows.count; ++r)
      for (int i = 0; i < W; ++i) {
        const V d = load_any<L>(x + r * n + i * L) - mean.v[i];
        sums[0].v[i] += d * d;
      }
    for (int s = 1; s < S; ++s)
      for (int i = 0; i < W; ++i) sums[0].v[i] += sums[s].v[i];
    sums[0].write(rows.products + c);
  }
};

template <bool Relu, bool Residual>
struct Normalize {
  template <int L, int W>
  struct Of {
    static void run(const Rows& rows, int c) {
      typedef typename Lanes<L>::V V;
      typedef Block<L, W> B;
      const B scale = B::read(rows.scale + c), shift = B::read(rows.shift + c);
      for (int64_t r = 0; r < rows.count; ++r) {
        const ptrdiff_t at = r * rows.channels + c;
        for (int i = 0; i < W; ++i) {
          V v = load_any<L>(rows.x + at + i * L) * scale.v[i] + shift.v[i];
          if (Residual) v += load_any<L>(rows.residual + at + i * L);
          store_any<L>(rows.y + at + i * L, Relu ? positive(v) : v);
        }
      }
    }
  };
};

// The gradient of W vectors of y, as far as it passes.
template <int L, Passing P>
inline typename Lanes<L>::V passing(const Rows& rows, ptrdiff_t at, typename Lanes<L>::V x,
                                    typename Lanes<L>::V scale, typename Lanes<L>::V shift) {
  typedef typename Lanes<L>::V V;
  const V g = load_any<L>(rows.gradient + at);
  if (P == Passing::kPositive) {
    const V all = rows.more ? g + load_any<L>(rows.more + at) : g;
    return load_any<L>(rows.y + at) > V{} ? all : V{};
  }
  if (P == Passing::kRecomputed) return x * scale + shift > V{} ? g : V{};
  return g;
}

template <Passing P>
struct AddUp {
  template <int L, int W>
  struct Of {
    static void run(const Rows& rows, int c) {
      typedef typename Lanes<L>::V V;
      typedef Block<L, W> B;
      const bool recomputed = P == Passing::kRecomputed;
      const B mean = B::read(rows.mean + c);
      const B scale = recomputed ? B::read(rows.scale + c) : mean;
      const B shift = recomputed ? B::read(rows.shift + c) : mean;
      B sums = B::zero(), products = B::zero();
      for (int64_t r = 0; r < rows.count; ++r)
        for (int i = 0; i < W; ++i) {
          const ptrdiff_t at = r * rows.channels + c + i * L;
          const V x = load_any<L>(rows.x + at);
          const V g = passing<L, P>(rows, at, x, scale.v[i], shift.v[i]);
          if (P == Passing::kPositive) store_any<L>(rows.of_residual + at, g);
          sums.v[i] += g;
          products.v[i] += g * (x - mean.v[i]);
        }
      sums.write(rows.sums + c);
      products.write(rows.products + c);
    }
  };
};

struct Range {
  const Source& source;
  int64_t first, count;
  int channels;
  float* to;
};

template <Reading R>
struct Copy {
  template <int L, int W>
  struct Of {
    static void run(const Range& range, int c) {
      Reader<L, R> read[W];
      for (int i = 0; i < W; ++i) read[i] = Reader<L, R>(range.source, c + i * L);
      const ptrdiff_t begin = range.first * range.channels;
      for (int64_t r = 0; r < range.count; ++r)
        for (int i = 0; i < W; ++i)
          store_any<L>(range.to + r * range.channels + c + i * L,
                       read[i](begin + r * range.channels));
    }
  };
};

template <int L>
void moments(const Rows& rows) {
  each_block<L, Moments>(rows);
}

template <int L>
void normalize(const Rows& rows, bool relu) {
  if (relu && rows.residual)
    each_block<L, Normalize<true, true>::template Of>(rows);
  else if (relu)
    each_block<L, Normalize<true, false>::template Of>(rows);
  else if (rows.residual)
    each_block<L, Normalize<false, true>::template Of>(rows);
  else
    each_block<L, Normalize<false, false>::template Of>(rows);
}

template <int L>
void add_up(const Rows& rows, Passing passing) {
  switch (passing) {
    case Passing::kAll:
      return each_block<L, AddUp<Passing::kAll>::template Of>(rows);
    case Passing::kPositive:
      return each_block<L, AddUp<Passing::kPositive>::template Of>(rows);
    case Passing::kRecomputed:
      return each_block<L, AddUp<Passing::kRecomputed>::template Of>(rows);
  }
}

template <int L>
void copy(const Source& source, int64_t first, int64_t count, int channels, float* to) {
  const Range range{source, first, count, channels, to};
  switch (source.reading) {
    case Reading::kPlain:
      return each_block<L, Copy<Reading::kPlain>::template Of>(range);
    case Reading::kNormalized:
      return each_block<L, Copy<Reading::kNormalized>::template Of>(range);
    case Reading::kGradient:
      return each_block<L, Copy<Reading::kGradient>::template Of>(range);
    case Reading::kPassingGradient:
      return each_block<L, Copy<Reading::kPassingGradient>::template Of>(range);
  }
}

template <int L>
Normalizer normalizer() {
  return Normalizer{moments<L>, normalize<L>, add_up<L>, copy<L>};
}

}  // namespace SPFDE_ISA

#endif  // SPFDE_NORMALIZER_H_
