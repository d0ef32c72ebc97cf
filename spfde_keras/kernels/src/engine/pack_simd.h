// Packs activations by channel, so that the lanes of a vector are images (or pixels), and unpacks.
//
// Compiled for one instruction set (SPFDE_ISA) and any number of lanes. May assume a Pass of a
// Structure, aligned scratch memory and the rules of conv_kernels.h.
#ifndef SPFDE_ENGINE_PACK_SIMD_H_
#define SPFDE_ENGINE_PACK_SIMD_H_

#include <assert.h>

#include "engine/conv_kernels.h"
#include "engine/operand_simd.h"
#include "engine/prefetch.h"
#include "engine/simd.h"

// NOLINTBEGIN(bugprone-implicit-widening-of-multiplication-result): a few vectors fit into an int.
namespace SPFDE_ISA {

using spfde::Layout;
using spfde::Pass;

inline int smaller(int a, int b) { return a < b ? a : b; }
inline int larger(int a, int b) { return a < b ? b : a; }

template <int L>
inline int valid_lanes(const Layout& layout, int64_t group, int y, int x) {
  const int64_t left =
      layout.total - group * layout.group_lanes - y * layout.row_lanes - x * layout.column_lanes;
  return left >= L ? L : left > 0 ? int(left) : 0;
}

inline ptrdiff_t offset_of(const Layout& layout, int64_t group, int y, int x) {
  return group * layout.group + y * layout.row + x * layout.column;
}

inline void fill_zero(float* p, ptrdiff_t count) { __builtin_memset(p, 0, count * sizeof(float)); }

// Packs all channels of one pixel of L lanes, the first of which is at data[at]; missing lanes
// become zero.
template <int L, Prologue P>
void pack_pixel(const Operand& src, ptrdiff_t at, ptrdiff_t lane, int lanes, int channels,
                float* to, ptrdiff_t channel_stride) {
  typedef typename Lanes<L>::V V;
  int c = 0;
  if (lanes == L)
    for (; c + L <= channels; c += L) {
      const OperandReader<L, P> read(src, c);
      V v[L];
      for (int l = 0; l < L; ++l) v[l] = read(at + l * lane);
      transpose<L>(v);
      for (int i = 0; i < L; ++i) store<L>(to + (c + i) * channel_stride, v[i]);
    }
  for (; c < channels; ++c) {
    const OperandReader<1, P> read(src, c);
    for (int l = 0; l < L; ++l) to[c * channel_stride + l] = l < lanes ? read(at + l * lane) : 0.0f;
  }
}

// The inverse of pack_pixel.
template <int L>
void unpack_pixel(const float* from, ptrdiff_t channel_stride, float* to, ptrdiff_t lane, int lanes,
                  int channels) {
  typedef typename Lanes<L>::V V;
  int c = 0;
  if (lanes == L)
    for (; c + L <= channels; c += L) {
      V v[L];
      for (int i = 0; i < L; ++i) v[i] = load<L>(from + (c + i) * channel_stride);
      transpose<L>(v);
      for (int l = 0; l < L; ++l) store_any<L>(to + l * lane + c, v[l]);
    }
  for (; c < channels; ++c)
    for (int l = 0; l < lanes; ++l) to[l * lane + c] = from[c * channel_stride + l];
}

// Row j of a group of dst. If it follows row j - 1 in this chunk, what both see is packed already.
struct RowTask {
  int64_t group;
  int j;
  bool follows;
};

inline RowTask row_task(const Pass& pass, int64_t index, int64_t first) {
  const int height = pass.phase[0].height, j = int(index % height);
  return RowTask{index / height, j, index > first && j > 0};
}

// Rows [begin, end) of src, counted from the first that row 0 of dst sees.
struct RowRange {
  int begin, end;
};

// The rows that are still to be packed for a row of dst.
inline RowRange rows_to_pack(const Pass& pass, RowTask row) {
  const int begin = row.j * pass.src_stride, end = begin + pass.ring_rows;
  return RowRange{row.follows ? larger(begin, end - pass.src_stride) : begin, end};
}

// Packs what a row sees: pass.ring_rows rows of pixels, of which those outside of the image are
// zero. Columns outside are the same in every row: see clear_margins.
template <int L, Prologue P>
void pack_rows(const Pass& pass, const Operand& src, RowTask row, float* packed) {
  const Layout& from = pass.src;
  const RowRange rows = rows_to_pack(pass, row);
  const ptrdiff_t size = ptrdiff_t(pass.packed_width) * L;
  assert(row.j >= 0 && rows.begin >= 0);
  for (int r = rows.begin; r < rows.end; ++r) {
    const int y = r + pass.first_y;
    float* to = packed + r % pass.ring_rows * size;
    if (y < 0 || y >= from.height) {
      for (int c = 0; c < from.channels; ++c) fill_zero(to + c * pass.channel_stride, size);
      continue;
    }
    for (int column = 0; column < pass.packed_width; ++column) {
      const int x = pass.first_x + column;
      if (x < 0 || x >= from.width) continue;
      pack_pixel<L, P>(src, offset_of(from, row.group, y, x), from.lane,
                       valid_lanes<L>(from, row.group, y, x), from.channels, to + column * L,
                       pass.channel_stride);
    }
  }
}

template <int L>
void pack_rows(const Pass& pass, const Operand& src, RowTask row, float* packed) {
  switch (src.prologue) {
    case Prologue::kNone:
      return pack_rows<L, Prologue::kNone>(pass, src, row, packed);
    case Prologue::kBatchNormRelu:
      return pack_rows<L, Prologue::kBatchNormRelu>(pass, src, row, packed);
    case Prologue::kBatchNormGrad:
      return pack_rows<L, Prologue::kBatchNormGrad>(pass, src, row, packed);
    case Prologue::kBatchNormReluGrad:
      return pack_rows<L, Prologue::kBatchNormReluGrad>(pass, src, row, packed);
  }
}

// What pack_rows will read.
template <int L>
Prefetcher prefetcher_for(const Pass& pass, const Operand& src, RowTask row, int64_t calls) {
  const Layout& from = pass.src;
  const RowRange rows = rows_to_pack(pass, row);
  const int begin = larger(rows.begin + pass.first_y, 0);
  const int end = smaller(rows.end + pass.first_y, from.height);
  const int lanes = valid_lanes<L>(from, row.group, begin, 0);
  if (begin >= end || lanes == 0) return Prefetcher();
  const ptrdiff_t at = offset_of(from, row.group, begin, 0);
  const ptrdiff_t size = ptrdiff_t(end - begin) * from.row * ptrdiff_t(sizeof(float));
  return Prefetcher(src.data + at, src.src ? src.src + at : nullptr, size,
                    from.lane * ptrdiff_t(sizeof(float)), from.group_lanes ? lanes : 1, calls);
}

// The same of row i + 1, if that is before the last.
template <int L>
Prefetcher prefetcher_for_next(const Pass& pass, const Operand& src, int64_t i, int64_t first,
                               int64_t last, int64_t calls) {
  if (i + 1 == last) return Prefetcher();
  return prefetcher_for<L>(pass, src, row_task(pass, i + 1, first), calls);
}

template <int L>
void clear_margins(const Pass& pass, float* packed) {
  for (int c = 0; c < pass.src.channels; ++c)
    for (int r = 0; r < pass.ring_rows; ++r)
      for (int column = 0; column < pass.packed_width; ++column) {
        const int x = pass.first_x + column;
        if (x < 0 || x >= pass.src.width)
          fill_zero(
              packed + c * pass.channel_stride + (ptrdiff_t(r) * pass.packed_width + column) * L,
              L);
      }
}

}  // namespace SPFDE_ISA
// NOLINTEND(bugprone-implicit-widening-of-multiplication-result)

#endif  // SPFDE_ENGINE_PACK_SIMD_H_
