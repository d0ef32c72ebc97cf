// Packing, tiles and the two passes, for one instruction set (SPFDE_ISA) and any number of lanes.
#ifndef SPFDE_ENGINE_H_
#define SPFDE_ENGINE_H_

#include "ahead.h"
#include "reader.h"
#include "simd.h"
#include "sparse_conv.h"

namespace SPFDE_ISA {

using spfde::Engine;
using spfde::kGroup;
using spfde::kTile;
using spfde::Layout;
using spfde::Pass;
using spfde::Phase;
using spfde::Run;

inline int smaller(int a, int b) { return a < b ? a : b; }
inline int larger(int a, int b) { return a < b ? b : a; }

template <int L>
inline int valid_lanes(const Layout& layout, int64_t group, int y, int x) {
  int64_t left = layout.total - group * layout.group_lanes - y * layout.row_lanes -
                 x * layout.column_lanes;
  return left >= L ? L : left > 0 ? int(left) : 0;
}

inline ptrdiff_t place(const Layout& layout, int64_t group, int y, int x) {
  return group * layout.group + y * layout.row + x * layout.column;
}

inline void fill_zero(float* p, ptrdiff_t count) { __builtin_memset(p, 0, count * sizeof(float)); }

// Packs all channels of one pixel of L lanes, the first of which is at data[at]; missing lanes
// become zero.
template <int L, Reading R>
void pack_pixel(const Source& source, ptrdiff_t at, ptrdiff_t lane, int lanes, int channels,
                float* to, ptrdiff_t plane) {
  typedef typename Lanes<L>::V V;
  int c = 0;
  if (lanes == L)
    for (; c + L <= channels; c += L) {
      const Reader<L, R> read(source, c);
      V v[L];
      for (int l = 0; l < L; ++l) v[l] = read(at + l * lane);
      transpose<L>(v);
      for (int i = 0; i < L; ++i) store<L>(to + (c + i) * plane, v[i]);
    }
  for (; c < channels; ++c) {
    const Reader<1, R> read(source, c);
    for (int l = 0; l < L; ++l) to[c * plane + l] = l < lanes ? read(at + l * lane) : 0.0f;
  }
}

// The inverse of pack_pixel.
template <int L>
void unpack_pixel(const float* from, ptrdiff_t plane, float* to, ptrdiff_t lane, int lanes,
                  int channels) {
  typedef typename Lanes<L>::V V;
  int c = 0;
  if (lanes == L)
    for (; c + L <= channels; c += L) {
      V v[L];
      for (int i = 0; i < L; ++i) v[i] = load<L>(from + (c + i) * plane);
      transpose<L>(v);
      for (int l = 0; l < L; ++l) store_any<L>(to + l * lane + c, v[l]);
    }
  for (; c < channels; ++c)
    for (int l = 0; l < lanes; ++l) to[l * lane + c] = from[c * plane + l];
}

// Row j of a group of targets. What it sees is packed already where row j - 1, of which that is so,
// sees it too: if it `follows`.
struct Row {
  int64_t group;
  int j;
  bool follows;
};

inline Row row_at(const Pass& pass, int64_t index, int64_t first) {
  const int height = pass.phase[0].height, j = int(index % height);
  return Row{index / height, j, index > first && j > 0};
}

// Rows [begin, end) of the source, from the first that row 0 sees: to be packed for a row.
struct Span {
  int begin, end;
};

inline Span unpacked(const Pass& pass, Row row) {
  const int begin = row.j * pass.stride, end = begin + pass.rows;
  return Span{row.follows ? larger(begin, end - pass.stride) : begin, end};
}

// Packs what a row sees: pass.rows rows of pixels, of which those outside of the image are zero.
// Columns outside are the same in every row: see clear_margins.
template <int L, Reading R>
void pack_rows(const Pass& pass, const Source& source, Row row, float* packed) {
  const Layout& from = pass.source;
  const Span span = unpacked(pass, row);
  const ptrdiff_t size = ptrdiff_t(pass.columns) * L;
  for (int r = span.begin; r < span.end; ++r) {
    const int y = r + pass.first_y;
    float* to = packed + r % pass.rows * size;
    if (y < 0 || y >= from.height) {
      for (int c = 0; c < from.channels; ++c) fill_zero(to + c * pass.plane, size);
      continue;
    }
    for (int column = 0; column < pass.columns; ++column) {
      const int x = pass.first_x + column;
      if (x < 0 || x >= from.width) continue;
      pack_pixel<L, R>(source, place(from, row.group, y, x), from.lane,
                       valid_lanes<L>(from, row.group, y, x), from.channels, to + column * L,
                       pass.plane);
    }
  }
}

template <int L>
void pack_rows(const Pass& pass, const Source& source, Row row, float* packed) {
  switch (source.reading) {
    case Reading::kPlain:
      return pack_rows<L, Reading::kPlain>(pass, source, row, packed);
    case Reading::kNormalized:
      return pack_rows<L, Reading::kNormalized>(pass, source, row, packed);
    case Reading::kGradient:
      return pack_rows<L, Reading::kGradient>(pass, source, row, packed);
    case Reading::kPassingGradient:
      return pack_rows<L, Reading::kPassingGradient>(pass, source, row, packed);
  }
}

// What pack_rows will read.
template <int L>
Ahead ahead_of(const Pass& pass, const Source& source, Row row, int64_t calls) {
  const Layout& from = pass.source;
  const Span span = unpacked(pass, row);
  const int begin = larger(span.begin + pass.first_y, 0);
  const int end = smaller(span.end + pass.first_y, from.height);
  const int lanes = valid_lanes<L>(from, row.group, begin, 0);
  if (begin >= end || lanes == 0) return Ahead();
  const ptrdiff_t at = place(from, row.group, begin, 0);
  const ptrdiff_t size = ptrdiff_t(end - begin) * from.row * ptrdiff_t(sizeof(float));
  return Ahead(source.data + at, source.x ? source.x + at : nullptr, size,
               from.lane * ptrdiff_t(sizeof(float)), from.group_lanes ? lanes : 1, calls);
}

// The same of row i + 1, if that is before the last.
template <int L>
Ahead ahead_of_next(const Pass& pass, const Source& source, int64_t i, int64_t first, int64_t last,
                    int64_t calls) {
  if (i + 1 == last) return Ahead();
  return ahead_of<L>(pass, source, row_at(pass, i + 1, first), calls);
}

template <int L>
void clear_margins(const Pass& pass, float* packed) {
  for (int c = 0; c < pass.source.channels; ++c)
    for (int r = 0; r < pass.rows; ++r)
      for (int column = 0; column < pass.columns; ++column) {
        const int x = pass.first_x + column;
        if (x < 0 || x >= pass.source.width)
          fill_zero(packed + c * pass.plane + (ptrdiff_t(r) * pass.columns + column) * L, L);
      }
}

// Weights by output channel, and where what they multiply begins.
struct Weights {
  const int32_t* offsets;
  const float* values;
  const Run* runs;
  int outputs;
};

// Those of a block of input channels, for row j.
inline Weights weights(const Pass& pass, const Phase& phase, int block, int j) {
  const int outputs = pass.target.channels;
  return Weights{pass.offsets + j * pass.stride % pass.rows * pass.entries, pass.values,
                 phase.runs + ptrdiff_t(block) * outputs, outputs};
}

// How often a row's tiles go through weights of an output channel.
inline int64_t runs(const Pass& pass) {
  int64_t tiles = 0;
  for (int k = 0; k < pass.phases; ++k) tiles += (pass.phase[k].width + kTile - 1) / kTile;
  return tiles * pass.blocks * pass.target.channels;
}

// sums[channel][pixel] (+)= weights * pixels, for TW pixels that are S apart.
template <int L, int TW, int S>
void multiply_tile(const float* in, const Weights& weights, bool first, float* sums,
                   Ahead* ahead) {
  typedef typename Lanes<L>::V V;
  for (int o = 0; o < weights.outputs; ++o, sums += kTile * L) {
    ahead->fetch();
    V v[TW];
    for (int i = 0; i < TW; ++i) v[i] = first ? V{} : load<L>(sums + i * L);
    const int begin = weights.runs[o].begin, end = begin + weights.runs[o].count;
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

// gradient[entry] += the product of its pixels with those of the output's gradient, at `out`.
template <int L, int TW, int S>
void correlate_tile(const float* in, const Weights& weights, const float* out, ptrdiff_t plane,
                    float* gradient, Ahead* ahead) {
  typedef typename Lanes<L>::V V;
  for (int o = 0; o < weights.outputs; ++o, out += plane) {
    ahead->fetch();
    V g[TW];
    for (int i = 0; i < TW; ++i) g[i] = load<L>(out + i * L);
    int e = weights.runs[o].begin;
    const int end = e + weights.runs[o].count;
    for (; e + kGroup <= end; e += kGroup) {
      V v[kGroup];
#pragma GCC unroll 4
      for (int k = 0; k < kGroup; ++k) v[k] = products<L, TW, S>(g, in + weights.offsets[e + k]);
      *(AnyQuad*)(gradient + e) += sum<L>(v);
    }
    if (e == end) continue;
    static_assert(kGroup == 4, "at most three entries are left");
    V v[kGroup] = {products<L, TW, S>(g, in + weights.offsets[e])};
    if (e + 1 < end) v[1] = products<L, TW, S>(g, in + weights.offsets[e + 1]);
    if (e + 2 < end) v[2] = products<L, TW, S>(g, in + weights.offsets[e + 2]);
    *(AnyQuad*)(gradient + e) += sum<L>(v);
  }
}

// The functions above for each width of a tile, 1 to kTile, with and without strides.
template <int L>
struct Tiles {
  typedef void (*Multiply)(const float*, const Weights&, bool, float*, Ahead*);
  typedef void (*Correlate)(const float*, const Weights&, const float*, ptrdiff_t, float*,
                            Ahead*);
#define SPFDE_WIDTHS(function, S)                                                      \
  {                                                                                    \
    function<L, 1, S>, function<L, 2, S>, function<L, 3, S>, function<L, 4, S>,        \
        function<L, 5, S>, function<L, 6, S>, function<L, 7, S>, function<L, 8, S>     \
  }
  static Multiply multiply(int width, int stride) {
    static const Multiply table[2][kTile] = {SPFDE_WIDTHS(multiply_tile, 1),
                                             SPFDE_WIDTHS(multiply_tile, 2)};
    return table[stride - 1][width - 1];
  }
  static Correlate correlate(int width, int stride) {
    static const Correlate table[2][kTile] = {SPFDE_WIDTHS(correlate_tile, 1),
                                              SPFDE_WIDTHS(correlate_tile, 2)};
    return table[stride - 1][width - 1];
  }
#undef SPFDE_WIDTHS
};

// Computes the targets of a row from what it sees.
template <int L>
void convolve_row(const Pass& pass, const float* packed, Row row, float* target,
                  float* sums, Ahead ahead) {
  const Layout& to = pass.target;
  for (int k = 0; k < pass.phases; ++k) {
    const Phase& phase = pass.phase[k];
    if (row.j >= phase.height) continue;
    for (int i0 = 0; i0 < phase.width; i0 += kTile) {
      const int width = smaller(kTile, phase.width - i0);
      const float* in = packed + ptrdiff_t(i0) * pass.stride * L;
      const typename Tiles<L>::Multiply multiply = Tiles<L>::multiply(width, pass.stride);
      for (int b = 0; b < pass.blocks; ++b)
        multiply(in, weights(pass, phase, b, row.j), b == 0, sums, &ahead);
      for (int i = 0; i < width; ++i) {
        const int y = phase.y0 + row.j * pass.step, x = phase.x0 + (i0 + i) * pass.step;
        unpack_pixel<L>(sums + i * L, kTile * L, target + place(to, row.group, y, x), to.lane,
                        valid_lanes<L>(to, row.group, y, x), to.channels);
      }
    }
  }
}

// Packs the gradient of the outputs of a row, without margins.
template <int L>
void pack_outputs(const Pass& pass, const Source& source, Row row, float* packed) {
  Pass outputs = pass;
  outputs.source = pass.target;
  outputs.stride = outputs.rows = 1;
  outputs.first_y = outputs.first_x = 0;
  outputs.columns = pass.target.width;
  outputs.plane = spfde::output_plane(pass, L);
  pack_rows<L>(outputs, source, row, packed);
}

// Adds what a row gives to the kernel's gradient. The gradients of its outputs are at `outputs`,
// `plane` apart from one channel to the next.
template <int L>
void correlate_row(const Pass& pass, const float* packed, Row row, const float* outputs,
                   ptrdiff_t plane, float* gradient, Ahead ahead) {
  const Layout& to = pass.target;
  for (int i0 = 0; i0 < to.width; i0 += kTile) {
    const typename Tiles<L>::Correlate correlate =
        Tiles<L>::correlate(smaller(kTile, to.width - i0), pass.stride);
    const float* in = packed + ptrdiff_t(i0) * pass.stride * L;
    for (int b = 0; b < pass.blocks; ++b)
      correlate(in, weights(pass, pass.phase[0], b, row.j), outputs + ptrdiff_t(i0) * L, plane,
                gradient, &ahead);
  }
}

template <int L>
void convolve(const Pass& pass, const Source& source, float* target, int64_t first, int64_t last,
              float* scratch) {
  float* sums = scratch + spfde::packed_floats(pass);
  clear_margins<L>(pass, scratch);
  for (int64_t i = first; i < last; ++i) {
    const Row row = row_at(pass, i, first);
    pack_rows<L>(pass, source, row, scratch);
    convolve_row<L>(pass, scratch, row, target, sums,
                    ahead_of_next<L>(pass, source, i, first, last, runs(pass)));
  }
}

template <int L>
void correlate(const Pass& pass, const Source& source, const Source& target, int64_t first,
               int64_t last, float* gradient, float* scratch) {
  float* outputs = scratch + spfde::packed_floats(pass);
  clear_margins<L>(pass, scratch);
  for (int64_t i = first; i < last; ++i) {
    const Row row = row_at(pass, i, first);
    pack_rows<L>(pass, source, row, scratch);
    pack_outputs<L>(pass, target, row, outputs);
    correlate_row<L>(pass, scratch, row, outputs, spfde::output_plane(pass, L), gradient,
                     ahead_of_next<L>(pass, source, i, first, last, runs(pass)));
  }
}

// Both at once, of a convolution without strides: the outputs' gradient is packed once.
template <int L>
void differentiate(const Pass& pass, const Pass& back, const Source& source, const Source& target,
                   int64_t first, int64_t last, float* source_gradient, float* gradient,
                   float* scratch) {
  float* packed = scratch;
  float* outputs = packed + spfde::packed_floats(pass);
  float* sums = outputs + spfde::packed_floats(back);
  clear_margins<L>(pass, packed);
  clear_margins<L>(back, outputs);
  for (int64_t i = first; i < last; ++i) {
    const Row row = row_at(back, i, first);
    const bool correlated = row.j < pass.target.height;
    pack_rows<L>(back, target, row, outputs);
    convolve_row<L>(back, outputs, row, source_gradient, sums,
                    correlated ? ahead_of<L>(pass, source, row, runs(back)) : Ahead());
    if (!correlated) continue;
    pack_rows<L>(pass, source, row, packed);
    // Where output (row.j, 0) is among what this row of the way back sees.
    const ptrdiff_t packed_row = (row.j - back.first_y) % back.rows;
    const float* begin = outputs + (packed_row * back.columns - back.first_x) * L;
    correlate_row<L>(pass, packed, row, begin, back.plane, gradient,
                     ahead_of_next<L>(back, target, i, first, last, runs(pass)));
  }
}

template <int L>
Engine engine() {
  return Engine{convolve<L>, correlate<L>, differentiate<L>};
}

}  // namespace SPFDE_ISA

#endif  // SPFDE_ENGINE_H_
