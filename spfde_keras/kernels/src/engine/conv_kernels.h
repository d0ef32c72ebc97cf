// The convolutions that each instruction set offers, and what they are told: passes and layouts.
//
// Compiled for every instruction set. Nothing here, or in a *_simd.h, may use a template or an
// inline function of the standard library: the linker keeps one copy of those, which may be the one
// that needs AVX-512.
#ifndef SPFDE_ENGINE_CONV_KERNELS_H_
#define SPFDE_ENGINE_CONV_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#include "engine/operand.h"

namespace spfde {

constexpr int kTile = 8;   // pixels whose sums are kept in registers
constexpr int kGroup = 4;  // entries whose gradients are summed up at once

// The entries [begin, begin + count) of one output channel and one block of input channels. `begin`
// is a multiple of kGroup; entries up to the next `begin` are unused.
struct EntrySpan {
  int32_t begin;
  int32_t count;
};

// Where activations lie: lane l of pixel (y, x) of group g begins, with all channels, at
// data[g * group + l * lane + y * row + x * column]. The lanes there are those of which
// g * group_lanes + y * row_lanes + x * column_lanes + l < total.
struct Layout {
  ptrdiff_t group, lane, row, column;
  int64_t groups, total, group_lanes, row_lanes, column_lanes;
  int height, width, channels;
};

// Pixels of dst that are computed alike: rows y0 + dst_stride * j, j < height, and columns
// likewise.
struct Phase {
  int y0, x0, height, width;
  const EntrySpan* spans;  // by block of input channels, then output channel
};

// One pass over activations: rows of src are packed, those of dst are computed from them (or, for
// the gradient of the weights, multiplied with them).
struct Pass {
  Layout src, dst;
  int src_stride;        // pixels of src from one row j of a phase to the next
  int dst_stride;        // pixels of dst from one row j to the next
  int first_y, first_x;  // the pixel of src that the first tap of j = 0 sees
  // Only what one row j sees is packed, so that it stays in a core's own cache. Packed rows are a
  // ring: row y of src is in place (y - first_y) % ring_rows.
  int ring_rows, packed_width;
  ptrdiff_t channel_stride;  // floats from one packed channel to the next
  int blocks;                // of input channels
  int phases;
  const Phase* phase;  // 1, or for backward data with a stride dst_stride * dst_stride
  // Where the pixels lie that each of `entries` entries multiplies, in floats, relative to a tile:
  // for every place in the ring in which what a row sees can begin. And the entries' weights.
  ptrdiff_t entries;
  const int32_t* offsets;
  const float* values;
};

// What one instruction set offers, for one number of lanes. `scratch` is aligned to 64 bytes and
// has room for the floats that the functions below tell.
struct ConvKernels {
  // Computes rows j [first, last) of dst; they are numbered through all groups.
  // Scratch: packed_floats + sum_floats.
  void (*convolve)(const Pass&, const Operand& src, float* dst, int64_t first, int64_t last,
                   float* scratch);
  // Adds the gradients of the entries, from rows [first, last), to `diff_entries`.
  // Scratch: packed_floats + dst_floats.
  void (*backward_weights)(const Pass&, const Operand& src, const Operand& diff_dst, int64_t first,
                           int64_t last, float* diff_entries, float* scratch);
  // Does both, without strides; `back` is the pass from diff_dst to diff_src, whose rows are those
  // that are numbered. Scratch: packed_floats of both passes + sum_floats(back).
  void (*backward)(const Pass& pass, const Pass& back, const Operand& src, const Operand& diff_dst,
                   int64_t first, int64_t last, float* diff_src, float* diff_entries,
                   float* scratch);
};

// Floats of what is packed of src.
inline ptrdiff_t packed_floats(const Pass& pass) {
  return ptrdiff_t(pass.src.channels) * pass.channel_stride;
}

// Floats for the sums of a tile.
inline ptrdiff_t sum_floats(const Pass& pass, int lanes) {
  return ptrdiff_t(pass.dst.channels) * kTile * lanes;
}

// Floats from one channel to the next of what is packed of a row of diff_dst.
inline ptrdiff_t dst_channel_stride(const Pass& pass, int lanes) {
  return ptrdiff_t(pass.dst.width | 1) * lanes;
}

// Floats of what is packed of a row of diff_dst.
inline ptrdiff_t dst_floats(const Pass& pass, int lanes) {
  return ptrdiff_t(pass.dst.channels) * dst_channel_stride(pass, lanes);
}

}  // namespace spfde

#endif  // SPFDE_ENGINE_CONV_KERNELS_H_
