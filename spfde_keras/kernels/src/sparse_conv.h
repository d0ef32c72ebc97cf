// Sparse 2-D convolutions on packed activations: what every instruction set's file compiles.
//
// Activations are packed channel by channel: for each channel and pixel one vector, whose lanes are
// images (or, where a pixel sees only itself, consecutive pixels). A weight is then one broadcast
// that multiplies whole vectors, wherever it is in the kernel, whatever the stride: no weight that
// is zero costs anything.
//
// Nothing here may use a template or an inline function of the standard library: the linker keeps
// one copy of those, which may be one that needs AVX-512.
#ifndef SPFDE_SPARSE_CONV_H_
#define SPFDE_SPARSE_CONV_H_

#include <stddef.h>
#include <stdint.h>

#include "source.h"

namespace spfde {

constexpr int kTile = 8;   // pixels whose sums are kept in registers
constexpr int kGroup = 4;  // weights whose gradients are summed up at once

// Entries, weights that are kept: [begin, begin + count) of one output channel and one block of
// input channels. `begin` is a multiple of kGroup; entries up to the next `begin` are unused.
struct Run {
  int32_t begin;
  int32_t count;
};

// Where activations lie: lane l of pixel (y, x) of group g begins, with all channels, at
// data[g * group + l * lane + y * row + x * column]. The lanes there are those of which
// g * group_lanes + y * row_lanes + x * column_lanes + l < total.
struct Layout {
  ptrdiff_t group, lane, row, column;
  int64_t total, group_lanes, row_lanes, column_lanes;
  int height, width, channels;
};

// Outputs that are computed alike: rows y0 + step * j, j < height, and columns likewise.
struct Phase {
  int y0, x0, height, width;
  const Run* runs;  // by block of input channels, then output channel
};

// One pass over activations: rows of `source` packed, those of `target` computed from them (or, for
// the gradient of the kernel, multiplied with them).
struct Pass {
  Layout source, target;
  int stride;            // pixels of `source` from one row j of a phase to the next
  int step;              // pixels of `target` from one j to the next
  int first_y, first_x;  // the pixel of `source` that the first entry of j = 0 can see
  // What one row j sees is packed, and no more, so that it stays in a core's own cache. Packed rows
  // are a ring: row y of `source` is in place (y - first_y) % rows.
  int rows, columns;
  ptrdiff_t plane;       // floats from one packed channel to the next
  int blocks;            // of input channels
  int phases;
  const Phase* phase;    // 1, or for strided inputs' gradients step * step
  // Where the pixels lie that each of `entries` weights multiplies, in floats, relative to a tile:
  // for every place in the ring in which what a row sees can begin. And what these weights are.
  ptrdiff_t entries;
  const int32_t* offsets;
  const float* values;
};

// What one instruction set offers, for one number of lanes.
struct Engine {
  // Computes rows j [first, last) of `target`; they are numbered through all groups. `scratch`,
  // here and below, is aligned to 64 bytes and as large as what is packed and summed up.
  void (*convolve)(const Pass&, const Source& source, float* target, int64_t first, int64_t last,
                   float* scratch);
  // Adds the gradients of the entries, from rows [first, last), to `gradient`.
  void (*correlate)(const Pass&, const Source& source, const Source& target, int64_t first,
                    int64_t last, float* gradient, float* scratch);
  // Does both: `back` is the pass from the outputs' gradient to that of the source.
  void (*differentiate)(const Pass& pass, const Pass& back, const Source& source,
                        const Source& target, int64_t first, int64_t last, float* source_gradient,
                        float* gradient, float* scratch);
};

// Floats of what is packed.
inline ptrdiff_t packed_floats(const Pass& pass) {
  return ptrdiff_t(pass.source.channels) * pass.plane;
}

// Floats for the sums of a tile.
inline ptrdiff_t sum_floats(const Pass& pass, int lanes) {
  return ptrdiff_t(pass.target.channels) * kTile * lanes;
}

// Floats from one channel to the next of the outputs' gradients of a row.
inline ptrdiff_t output_plane(const Pass& pass, int lanes) {
  return ptrdiff_t(pass.target.width | 1) * lanes;
}

// Floats for the outputs' gradients of a row.
inline ptrdiff_t output_floats(const Pass& pass, int lanes) {
  return ptrdiff_t(pass.target.channels) * output_plane(pass, lanes);
}

}  // namespace spfde

#endif  // SPFDE_SPARSE_CONV_H_
