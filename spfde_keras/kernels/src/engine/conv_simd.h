// Convolutions by tiles of pixels whose sums stay in registers.
//
// Compiled for one instruction set (SPFDE_ISA) and any number of lanes. May assume a Pass of a
// Structure, aligned scratch memory and the rules of conv_kernels.h. Owns nothing.
#ifndef SPFDE_ENGINE_CONV_SIMD_H_
#define SPFDE_ENGINE_CONV_SIMD_H_

#include <assert.h>

#include "engine/conv_kernels.h"
#include "engine/pack_simd.h"
#include "engine/prefetch.h"
#include "engine/simd.h"

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): a few vectors fit into an int.
namespace SPFDE_ISA {

using spfde::ConvKernels;
using spfde::EntrySpan;
using spfde::kGroup;
using spfde::kTile;
using spfde::Phase;

// The entries of a block of input channels, by output channel, and what they multiply.
struct BlockWeights {
  const int32_t* offsets;
  const float* values;
  const EntrySpan* spans;
  int out_channels;
};

// Those of a block for row j.
inline BlockWeights block_weights(const Pass& pass, const Phase& phase, int block, int j) {
  const int out_channels = pass.dst.channels;
  return BlockWeights{pass.offsets + j * pass.src_stride % pass.ring_rows * pass.entries,
                      pass.values, phase.spans + ptrdiff_t(block) * out_channels, out_channels};
}

// How often a row's tiles go through an output channel's entries of a block.
inline int64_t channel_visits(const Pass& pass) {
  int64_t tiles = 0;
  for (int k = 0; k < pass.phases; ++k) tiles += (pass.phase[k].width + kTile - 1) / kTile;
  return tiles * pass.blocks * pass.dst.channels;
}

// sums[channel][pixel] (+)= weights * pixels, for TW pixels that are S apart.
template <int L, int TW, int S>
void multiply_tile(const float* in, const BlockWeights& weights, bool first, float* sums,
                   Prefetcher* prefetcher) {
  typedef typename Lanes<L>::V V;
  for (int o = 0; o < weights.out_channels; ++o, sums += kTile * L) {
    prefetcher->fetch();
    V v[TW];
    for (int i = 0; i < TW; ++i) v[i] = first ? V{} : load<L>(sums + i * L);
    const int begin = weights.spans[o].begin, end = begin + weights.spans[o].count;
    for (int e = begin; e < end; ++e) {
      const float* p = in + weights.offsets[e];
      // One register, since an address made of two costs each multiplication an instruction.
      asm("" : "+r"(p));
      const V weight = weights.values[e] - V{};
#pragma GCC unroll 8
      for (int i = 0; i < TW; ++i) v[i] += weight * load<L>(p + i * S * L);
    }
    for (int i = 0; i < TW; ++i) store<L>(sums + i * L, v[i]);
  }
}

// The products of TW pixels that are S apart with TW vectors, summed up.
template <int L, int TW, int S>
SPFDE_INLINE typename Lanes<L>::V products(const typename Lanes<L>::V* g, const float* p) {
  asm("" : "+r"(p));
  // Two sums, since each multiply-add waits for the one before it.
  typename Lanes<L>::V v[2] = {};
#pragma GCC unroll 8
  for (int i = 0; i < TW; ++i) v[i % 2] += g[i] * load<L>(p + i * S * L);
  return v[0] + v[1];
}

// diff_entries[entry] += the product of its pixels with those of diff_dst, packed at `out`.
template <int L, int TW, int S>
void backward_weights_tile(const float* in, const BlockWeights& weights, const float* out,
                           ptrdiff_t channel_stride, float* diff_entries, Prefetcher* prefetcher) {
  typedef typename Lanes<L>::V V;
  for (int o = 0; o < weights.out_channels; ++o, out += channel_stride) {
    prefetcher->fetch();
    V g[TW];
    for (int i = 0; i < TW; ++i) g[i] = load<L>(out + i * L);
    int e = weights.spans[o].begin;
    const int end = e + weights.spans[o].count;
    for (; e + kGroup <= end; e += kGroup) {
      V v[kGroup];
#pragma GCC unroll 4
      for (int k = 0; k < kGroup; ++k) v[k] = products<L, TW, S>(g, in + weights.offsets[e + k]);
      *(AnyQuad*)(diff_entries + e) += sum<L>(v);
    }
    if (e == end) continue;
    static_assert(kGroup == 4, "at most three entries are left");
    V v[kGroup] = {products<L, TW, S>(g, in + weights.offsets[e])};
    if (e + 1 < end) v[1] = products<L, TW, S>(g, in + weights.offsets[e + 1]);
    if (e + 2 < end) v[2] = products<L, TW, S>(g, in + weights.offsets[e + 2]);
    *(AnyQuad*)(diff_entries + e) += sum<L>(v);
  }
}

// The functions above for each width of a tile, 1 to kTile, with and without strides.
template <int L>
struct Tiles {
  typedef void (*Multiply)(const float*, const BlockWeights&, bool, float*, Prefetcher*);
  typedef void (*BackwardWeights)(const float*, const BlockWeights&, const float*, ptrdiff_t,
                                  float*, Prefetcher*);
#define SPFDE_WIDTHS(function, S)                                              \
  {function<L, 1, S>, function<L, 2, S>, function<L, 3, S>, function<L, 4, S>, \
   function<L, 5, S>, function<L, 6, S>, function<L, 7, S>, function<L, 8, S>}
  static Multiply multiply(int width, int stride) {
    static const Multiply table[2][kTile] = {SPFDE_WIDTHS(multiply_tile, 1),
                                             SPFDE_WIDTHS(multiply_tile, 2)};
    assert(width >= 1 && width <= kTile && (stride == 1 || stride == 2));
    return table[stride - 1][width - 1];
  }
  static BackwardWeights backward_weights(int width, int stride) {
    static const BackwardWeights table[2][kTile] = {SPFDE_WIDTHS(backward_weights_tile, 1),
                                                    SPFDE_WIDTHS(backward_weights_tile, 2)};
    assert(width >= 1 && width <= kTile && (stride == 1 || stride == 2));
    return table[stride - 1][width - 1];
  }
#undef SPFDE_WIDTHS
};

// Computes a row of dst from what it sees.
template <int L>
void convolve_row(const Pass& pass, const float* packed, RowTask row, float* dst, float* sums,
                  Prefetcher prefetcher) {
  const Layout& to = pass.dst;
  for (int k = 0; k < pass.phases; ++k) {
    const Phase& phase = pass.phase[k];
    if (row.j >= phase.height) continue;
    for (int i0 = 0; i0 < phase.width; i0 += kTile) {
      const int width = smaller(kTile, phase.width - i0);
      const float* in = packed + ptrdiff_t(i0) * pass.src_stride * L;
      const typename Tiles<L>::Multiply multiply = Tiles<L>::multiply(width, pass.src_stride);
      for (int b = 0; b < pass.blocks; ++b)
        multiply(in, block_weights(pass, phase, b, row.j), b == 0, sums, &prefetcher);
      for (int i = 0; i < width; ++i) {
        const int y = phase.y0 + row.j * pass.dst_stride, x = phase.x0 + (i0 + i) * pass.dst_stride;
        unpack_pixel<L>(sums + i * L, kTile * L, dst + offset_of(to, row.group, y, x), to.lane,
                        valid_lanes<L>(to, row.group, y, x), to.channels);
      }
    }
  }
}

// Packs a row of diff_dst, without margins.
template <int L>
void pack_diff_dst(const Pass& pass, const Operand& diff_dst, RowTask row, float* packed) {
  Pass outputs = pass;
  outputs.src = pass.dst;
  outputs.src_stride = outputs.ring_rows = 1;
  outputs.first_y = outputs.first_x = 0;
  outputs.packed_width = pass.dst.width;
  outputs.channel_stride = spfde::dst_channel_stride(pass, L);
  pack_rows<L>(outputs, diff_dst, row, packed);
}

// Adds what a row gives to the gradients of the entries. Its diff_dst is packed at `outputs`, with
// `channel_stride` floats from one channel to the next.
template <int L>
void backward_weights_row(const Pass& pass, const float* packed, RowTask row, const float* outputs,
                          ptrdiff_t channel_stride, float* diff_entries, Prefetcher prefetcher) {
  const Layout& to = pass.dst;
  for (int i0 = 0; i0 < to.width; i0 += kTile) {
    const typename Tiles<L>::BackwardWeights backward_weights =
        Tiles<L>::backward_weights(smaller(kTile, to.width - i0), pass.src_stride);
    const float* in = packed + ptrdiff_t(i0) * pass.src_stride * L;
    for (int b = 0; b < pass.blocks; ++b)
      backward_weights(in, block_weights(pass, pass.phase[0], b, row.j),
                       outputs + ptrdiff_t(i0) * L, channel_stride, diff_entries, &prefetcher);
  }
}

template <int L>
void convolve(const Pass& pass, const Operand& src, float* dst, int64_t first, int64_t last,
              float* scratch) {
  float* sums = scratch + spfde::packed_floats(pass);
  clear_margins<L>(pass, scratch);
  for (int64_t i = first; i < last; ++i) {
    const RowTask row = row_task(pass, i, first);
    pack_rows<L>(pass, src, row, scratch);
    convolve_row<L>(pass, scratch, row, dst, sums,
                    prefetcher_for_next<L>(pass, src, i, first, last, channel_visits(pass)));
  }
}

template <int L>
void backward_weights(const Pass& pass, const Operand& src, const Operand& diff_dst, int64_t first,
                      int64_t last, float* diff_entries, float* scratch) {
  float* outputs = scratch + spfde::packed_floats(pass);
  clear_margins<L>(pass, scratch);
  for (int64_t i = first; i < last; ++i) {
    const RowTask row = row_task(pass, i, first);
    pack_rows<L>(pass, src, row, scratch);
    pack_diff_dst<L>(pass, diff_dst, row, outputs);
    backward_weights_row<L>(
        pass, scratch, row, outputs, spfde::dst_channel_stride(pass, L), diff_entries,
        prefetcher_for_next<L>(pass, src, i, first, last, channel_visits(pass)));
  }
}

// Both at once, of a convolution without strides: diff_dst is packed once.
template <int L>
void backward(const Pass& pass, const Pass& back, const Operand& src, const Operand& diff_dst,
              int64_t first, int64_t last, float* diff_src, float* diff_entries, float* scratch) {
  // So that each row of the way back sees the row of diff_dst that has its number.
  assert(-back.first_y >= 0 && -back.first_y < back.ring_rows && back.first_x <= 0);
  assert(pass.src_stride == 1 && pass.dst.height <= back.dst.height);
  float* packed = scratch;
  float* outputs = packed + spfde::packed_floats(pass);
  float* sums = outputs + spfde::packed_floats(back);
  clear_margins<L>(pass, packed);
  clear_margins<L>(back, outputs);
  for (int64_t i = first; i < last; ++i) {
    const RowTask row = row_task(back, i, first);
    const bool has_dst = row.j < pass.dst.height;
    pack_rows<L>(back, diff_dst, row, outputs);
    convolve_row<L>(
        back, outputs, row, diff_src, sums,
        has_dst ? prefetcher_for<L>(pass, src, row, channel_visits(back)) : Prefetcher());
    if (!has_dst) continue;
    pack_rows<L>(pass, src, row, packed);
    // Where output (row.j, 0) is among what this row of the way back sees.
    const ptrdiff_t packed_row = (row.j - back.first_y) % back.ring_rows;
    const float* begin = outputs + (packed_row * back.packed_width - back.first_x) * L;
    backward_weights_row<L>(
        pass, packed, row, begin, back.channel_stride, diff_entries,
        prefetcher_for_next<L>(back, diff_dst, i, first, last, channel_visits(pass)));
  }
}

// The kernels for one of the numbers of lanes that an instruction set offers.
template <int... L>
const ConvKernels* conv_kernels(int lanes) {
  static_assert(((sizeof(typename Lanes<L>::V) == L * sizeof(float)) && ...), "vectors are full");
  static const ConvKernels kernels[] = {{convolve<L>, backward_weights<L>, backward<L>}...};
  constexpr int offered[] = {L...};
  for (int i = 0; i < int(sizeof...(L)); ++i)
    if (offered[i] == lanes) return &kernels[i];
  assert(!"a number of lanes that choose_lanes() returns");
  return nullptr;
}

}  // namespace SPFDE_ISA
// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

#endif  // SPFDE_ENGINE_CONV_SIMD_H_
