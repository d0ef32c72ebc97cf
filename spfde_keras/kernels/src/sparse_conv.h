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

// A weight: where the pixel that it multiplies lies, relative to a tile, and its value.
struct Entry {
  int32_t offset;  // in floats
  float value;
};

// Entries [begin, begin + count) of one output channel and one block of input channels. `begin` is
// a multiple of kGroup; entries up to the next `begin` are unused, and safe to read.
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

// One pass over activations: `source` packed in strips, `target` computed from them (or, for the
// gradient of the kernel, multiplied with them).
struct Pass {
  Layout source, target;
  int strip;        // rows j of a phase that are computed from one packed strip
  int stride;       // pixels of `source` from one j to the next
  int step;         // pixels of `target` from one j to the next
  int first_y, first_x;  // the pixel of `source` that the first entry of j = 0 can see
  int rows, columns;     // packed, of a strip
  ptrdiff_t plane;       // floats from one packed channel to the next
  int blocks;            // of input channels
  int phases;
  const Phase* phase;    // 1, or for strided inputs' gradients step * step
  const Entry* entries;

  // Makes strips less high than memory was planned for.
  void set_strip(int height) {
    rows -= (strip - height) * stride;
    strip = height;
  }
};

// What one instruction set offers, for one number of lanes.
struct Engine {
  // Computes strips [first, last) of `target`; strips are numbered through all groups. `scratch`,
  // here and below, is aligned to 64 bytes and as large as what is packed and summed up.
  void (*convolve)(const Pass&, const Source& source, float* target, int64_t first, int64_t last,
                   float* scratch);
  // Adds the gradients of the entries, from strips [first, last), to `gradient`.
  void (*correlate)(const Pass&, const Source& source, const Source& target, int64_t first,
                    int64_t last, float* gradient, float* scratch);
  // Does both: `back` is the pass from the outputs' gradient to that of the source, whose strips
  // are as high as those of `pass`.
  void (*differentiate)(const Pass& pass, const Pass& back, const Source& source,
                        const Source& target, int64_t first, int64_t last, float* source_gradient,
                        float* gradient, float* scratch);
};

// Floats of a packed strip.
inline ptrdiff_t packed_floats(const Pass& pass) {
  return ptrdiff_t(pass.source.channels) * pass.plane;
}

// Floats for the sums of a tile.
inline ptrdiff_t sum_floats(const Pass& pass, int lanes) {
  return ptrdiff_t(pass.target.channels) * kTile * lanes;
}

// Floats from one channel to the next of the outputs' gradients of a strip.
inline ptrdiff_t output_plane(const Pass& pass, int lanes) {
  return (ptrdiff_t(pass.strip) * pass.target.width | 1) * lanes;
}

// Floats for the outputs' gradients of a strip.
inline ptrdiff_t output_floats(const Pass& pass, int lanes) {
  return ptrdiff_t(pass.target.channels) * output_plane(pass, lanes);
}

// Strips of each group.
inline int64_t strips(const Pass& pass) {
  return (pass.phase[0].height + pass.strip - 1) / pass.strip;
}

}  // namespace spfde

#endif  // SPFDE_SPARSE_CONV_H_
