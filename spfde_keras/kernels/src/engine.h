// Packing, tiles and the two passes, for one instruction set (SPFDE_ISA) and any number of lanes.
#ifndef SPFDE_ENGINE_H_
#define SPFDE_ENGINE_H_

#include "reader.h"
#include "simd.h"
#include "sparse_conv.h"

namespace SPFDE_ISA {

using spfde::Engine;
using spfde::Entry;
using spfde::kGroup;
using spfde::kTile;
using spfde::Layout;
using spfde::Pass;
using spfde::Phase;
using spfde::Run;

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

// Packs what rows j0, j0 + 1, ... of a strip see: pass.rows x pass.columns pixels, of which those
// outside of the image are zero. Columns outside are the same in every strip: see clear_margins.
// Rows that the strip before this one has packed, if that is what `packed` holds, are moved.
template <int L, Reading R>
void pack_strip(const Pass& pass, const Source& source, int64_t group, int j0, bool next,
                float* packed) {
  const Layout& from = pass.source;
  const ptrdiff_t row = ptrdiff_t(pass.columns) * L;
  const int step = pass.strip * pass.stride;
  const int known = next && pass.rows > step ? pass.rows - step : 0;
  if (known > 0)
    for (int c = 0; c < from.channels; ++c) {
      float* plane = packed + c * pass.plane;
      __builtin_memmove(plane, plane + step * row, known * row * sizeof(float));
    }
  for (int r = known; r < pass.rows; ++r) {
    const int y = j0 * pass.stride + pass.first_y + r;
    float* to = packed + r * row;
    if (y < 0 || y >= from.height) {
      for (int c = 0; c < from.channels; ++c) fill_zero(to + c * pass.plane, row);
      continue;
    }
    for (int column = 0; column < pass.columns; ++column) {
      const int x = pass.first_x + column;
      if (x < 0 || x >= from.width) continue;
      pack_pixel<L, R>(source, place(from, group, y, x), from.lane,
                       valid_lanes<L>(from, group, y, x), from.channels, to + column * L,
                       pass.plane);
    }
  }
}

template <int L>
void pack_strip(const Pass& pass, const Source& source, int64_t group, int j0, bool next,
                float* packed) {
  switch (source.reading) {
    case Reading::kPlain:
      return pack_strip<L, Reading::kPlain>(pass, source, group, j0, next, packed);
    case Reading::kNormalized:
      return pack_strip<L, Reading::kNormalized>(pass, source, group, j0, next, packed);
    case Reading::kGradient:
      return pack_strip<L, Reading::kGradient>(pass, source, group, j0, next, packed);
    case Reading::kPassingGradient:
      return pack_strip<L, Reading::kPassingGradient>(pass, source, group, j0, next, packed);
  }
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

// sums[channel][pixel] (+)= weights * pixels, for TW pixels that are S apart.
template <int L, int TW, int S>
void multiply_tile(const float* in, const Entry* entries, const Run* runs, int outputs, bool first,
                   float* sums) {
  typedef typename Lanes<L>::V V;
  for (int o = 0; o < outputs; ++o, sums += kTile * L) {
    V v[TW];
    for (int i = 0; i < TW; ++i) v[i] = first ? V{} : load<L>(sums + i * L);
    const Entry* e = entries + runs[o].begin;
    for (const Entry* end = e + runs[o].count; e != end; ++e) {
      const float* p = in + e->offset;
      // One register, since an address made of two costs each multiplication an instruction.
      asm("" : "+r"(p));
      const V weight = e->value - V{};
#pragma GCC unroll 8
      for (int i = 0; i < TW; ++i) v[i] += weight * load<L>(p + i * S * L);
    }
    for (int i = 0; i < TW; ++i) store<L>(sums + i * L, v[i]);
  }
}

// gradient[entry] += the product of its pixels with those of the output's gradient, at `out`.
template <int L, int TW, int S>
void correlate_tile(const float* in, const Entry* entries, const Run* runs, int outputs,
                    const float* out, ptrdiff_t plane, float* gradient) {
  typedef typename Lanes<L>::V V;
  for (int o = 0; o < outputs; ++o, out += plane) {
    V g[TW];
    for (int i = 0; i < TW; ++i) g[i] = load<L>(out + i * L);
    const int end = runs[o].begin + runs[o].count;
    for (int e = runs[o].begin; e < end; e += kGroup) {
      V v[kGroup];
#pragma GCC unroll 4
      for (int k = 0; k < kGroup; ++k) {
        const float* p = in + entries[e + k].offset;
        asm("" : "+r"(p));
        v[k] = g[0] * load<L>(p);
#pragma GCC unroll 8
        for (int i = 1; i < TW; ++i) v[k] += g[i] * load<L>(p + i * S * L);
      }
      *(AnyQuad*)(gradient + e) += sum<L>(v);
    }
  }
}

// The functions above for each width of a tile, 1 to kTile, with and without strides.
template <int L>
struct Tiles {
  typedef void (*Multiply)(const float*, const Entry*, const Run*, int, bool, float*);
  typedef void (*Correlate)(const float*, const Entry*, const Run*, int, const float*, ptrdiff_t,
                            float*);
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

inline int smaller(int a, int b) { return a < b ? a : b; }

// Computes the targets of one packed strip, whose first row is j0.
template <int L>
void convolve_strip(const Pass& pass, const float* packed, int64_t group, int j0, float* target,
                    float* sums) {
  const Layout& to = pass.target;
  const ptrdiff_t row = ptrdiff_t(pass.columns) * L;
  for (int k = 0; k < pass.phases; ++k) {
    const Phase& phase = pass.phase[k];
    const int j1 = smaller(j0 + pass.strip, phase.height);
    for (int j = j0; j < j1; ++j)
      for (int i0 = 0; i0 < phase.width; i0 += kTile) {
        const int width = smaller(kTile, phase.width - i0);
        const float* in = packed + (j - j0) * pass.stride * row + ptrdiff_t(i0) * pass.stride * L;
        const typename Tiles<L>::Multiply multiply = Tiles<L>::multiply(width, pass.stride);
        for (int b = 0; b < pass.blocks; ++b)
          multiply(in, pass.entries, phase.runs + ptrdiff_t(b) * to.channels, to.channels, b == 0,
                   sums);
        for (int i = 0; i < width; ++i) {
          const int y = phase.y0 + j * pass.step, x = phase.x0 + (i0 + i) * pass.step;
          unpack_pixel<L>(sums + i * L, kTile * L, target + place(to, group, y, x), to.lane,
                          valid_lanes<L>(to, group, y, x), to.channels);
        }
      }
  }
}

// Packs the gradient of outputs j0, j0 + 1, ... of a strip, without margins.
template <int L>
void pack_outputs(const Pass& pass, const Source& source, int64_t group, int j0, float* packed) {
  Pass outputs = pass;
  outputs.source = pass.target;
  outputs.stride = 1;
  outputs.first_y = outputs.first_x = 0;
  outputs.rows = smaller(pass.strip, pass.target.height - j0);
  outputs.columns = pass.target.width;
  outputs.plane = spfde::output_plane(pass, L);
  pack_strip<L>(outputs, source, group, j0, false, packed);
}

// Adds what one packed strip, whose first row is j0, gives to the kernel's gradient. The gradient of
// output (y, x) is at outputs[(y - j0) * out_row + x * L].
template <int L>
void correlate_strip(const Pass& pass, const float* packed, int j0, const float* outputs,
                     ptrdiff_t out_row, ptrdiff_t out_plane, float* gradient) {
  const Layout& to = pass.target;
  const ptrdiff_t row = ptrdiff_t(pass.columns) * L;
  const int j1 = smaller(j0 + pass.strip, to.height);
  for (int j = j0; j < j1; ++j)
    for (int i0 = 0; i0 < to.width; i0 += kTile) {
      const typename Tiles<L>::Correlate correlate =
          Tiles<L>::correlate(smaller(kTile, to.width - i0), pass.stride);
      const float* in = packed + (j - j0) * pass.stride * row + ptrdiff_t(i0) * pass.stride * L;
      const float* out = outputs + (j - j0) * out_row + ptrdiff_t(i0) * L;
      for (int b = 0; b < pass.blocks; ++b)
        correlate(in, pass.entries, pass.phase[0].runs + ptrdiff_t(b) * to.channels, to.channels,
                  out, out_plane, gradient);
    }
}

template <int L>
void convolve(const Pass& pass, const Source& source, float* target, int64_t first, int64_t last,
              float* scratch) {
  float* sums = scratch + spfde::packed_floats(pass);
  const int64_t per_group = spfde::strips(pass);
  clear_margins<L>(pass, scratch);
  for (int64_t strip = first; strip < last; ++strip) {
    const int64_t group = strip / per_group;
    const int j0 = int(strip % per_group) * pass.strip;
    pack_strip<L>(pass, source, group, j0, strip > first && j0 > 0, scratch);
    convolve_strip<L>(pass, scratch, group, j0, target, sums);
  }
}

template <int L>
void correlate(const Pass& pass, const Source& source, const Source& target, int64_t first,
               int64_t last, float* gradient, float* scratch) {
  const Layout& to = pass.target;
  float* outputs = scratch + spfde::packed_floats(pass);
  const ptrdiff_t row = ptrdiff_t(to.width) * L, plane = spfde::output_plane(pass, L);
  const int64_t per_group = spfde::strips(pass);
  clear_margins<L>(pass, scratch);
  for (int64_t strip = first; strip < last; ++strip) {
    const int64_t group = strip / per_group;
    const int j0 = int(strip % per_group) * pass.strip;
    pack_strip<L>(pass, source, group, j0, strip > first && j0 > 0, scratch);
    pack_outputs<L>(pass, target, group, j0, outputs);
    correlate_strip<L>(pass, scratch, j0, outputs, row, plane, gradient);
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
  const ptrdiff_t row = ptrdiff_t(back.columns) * L;
  // Where output (j0, 0) is among what a strip of the way back sees.
  const float* begin = outputs - back.first_y * row - ptrdiff_t(back.first_x) * L;
  const int64_t per_group = spfde::strips(back);
  clear_margins<L>(pass, packed);
  clear_margins<L>(back, outputs);
  for (int64_t strip = first; strip < last; ++strip) {
    const int64_t group = strip / per_group;
    const int j0 = int(strip % per_group) * back.strip;
    const bool next = strip > first && j0 > 0;
    pack_strip<L>(back, target, group, j0, next, outputs);
    convolve_strip<L>(back, outputs, group, j0, source_gradient, sums);
    pack_strip<L>(pass, source, group, j0, next, packed);
    correlate_strip<L>(pass, packed, j0, begin, row, back.plane, gradient);
  }
}

template <int L>
Engine engine() {
  return Engine{convolve<L>, correlate<L>, differentiate<L>};
}

}  // namespace SPFDE_ISA

#endif  // SPFDE_ENGINE_H_
