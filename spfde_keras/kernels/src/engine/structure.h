// Where the kept weights of a mask are, in the order and with the offsets that the kernels need.
//
// Owns all that a Pass points to but phases and values. May assume a Geometry of make_geometry()
// and a mask of its weights.
#ifndef SPFDE_ENGINE_STRUCTURE_H_
#define SPFDE_ENGINE_STRUCTURE_H_

#include <cstdint>
#include <vector>

#include "engine/conv_kernels.h"
#include "engine/geometry.h"

namespace spfde {

// kForward: from src to dst; kBackwardData: from diff_dst to diff_src.
enum class Direction { kForward, kBackwardData };

// Returns the number of lanes, of 4, 8, ... `most`, that `samples` fill best.
int choose_lanes(int64_t samples, int most);

// Everything about a pass but the values of weights and where activations are in memory.
class Structure {
 public:
  // `mask` has the shape of the weights. With kForward the passes are the forward one and that of
  // the weights' gradient; with kBackwardData, that of diff_src. Throws std::length_error if
  // offsets do not fit into 32 bits, or are too many.
  Structure(const Geometry& geometry, Direction direction, int lanes, const bool* mask);

  // Whether it holds for this convolution and mask, too: the batch may be another.
  bool fits(const Geometry& geometry, int lanes, const bool* mask) const;

  int lanes() const { return lanes_; }
  // The number of entries, unused ones included.
  int64_t entries() const { return entries_; }
  // The weights of the entries; 0 for unused ones.
  std::vector<float> gather(const float* weights) const;
  // The inverse: puts what the entries have where their weights are, and 0 elsewhere.
  void scatter(const float* entries, float* weights) const;

  // Describes a pass without values of entries yet. It points into this structure and into
  // `phases`.
  Pass pass(const Geometry& geometry, std::vector<Phase>* phases) const;

 private:
  // A position in the kernel, and the pixel of the pass's src it sees from pixel 0 of a phase.
  struct Tap {
    int ky, kx, y, x;
  };
  struct EntryIndex {
    int32_t weight, entry;
  };
  void find_taps();
  void lay_out();
  void number_entries();

  Geometry geometry_;
  Direction direction_;
  int lanes_;
  std::vector<char> mask_;
  int dst_stride_, src_channels_, dst_channels_;  // of the pass
  std::vector<std::vector<Tap>> taps_;            // by phase
  int first_y_ = 0, first_x_ = 0, extent_y_ = 0, extent_x_ = 0;
  int packed_width_ = 0, block_ = 0, blocks_ = 0;
  ptrdiff_t channel_stride_ = 0;
  std::vector<EntrySpan> spans_;  // by phase, block and output channel of the pass
  std::vector<int32_t> offsets_;  // as in Pass
  // By weight, since a mask has more weights than entries, and memory is best read in order.
  std::vector<EntryIndex> entry_indices_;
  int64_t entries_ = 0;
};

}  // namespace spfde

#endif  // SPFDE_ENGINE_STRUCTURE_H_
