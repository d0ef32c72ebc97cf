// Where the kept weights of a kernel are, in the order and with the offsets the engines need.
#ifndef SPFDE_STRUCTURE_H_
#define SPFDE_STRUCTURE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "sparse_conv.h"

namespace spfde {

// A convolution of images (batch, height, width, inputs), kernel (kernel_height, kernel_width,
// inputs, outputs), both in that order in memory.
struct Geometry {
  int64_t batch;
  int height, width, inputs, outputs, kernel_height, kernel_width, stride, pad_top, pad_left;
  int out_height, out_width;

  // Whether a pixel sees only itself. Pixels are then rows of a matrix, whatever image they are of.
  bool pointwise() const {
    return kernel_height == 1 && kernel_width == 1 && stride == 1 && pad_top == 0 && pad_left == 0;
  }
  int64_t weights() const { return int64_t(kernel_height) * kernel_width * inputs * outputs; }
  // What can fill the lanes of vectors: pixels, or images.
  int64_t samples() const { return pointwise() ? batch * height * width : batch; }

  bool operator==(const Geometry& other) const;
};

// Returns the convolution of images (batch, height, width, inputs) with a kernel (rows, columns,
// inputs, outputs), where `pad` pixels are added at the top, bottom, left and right. Throws
// std::invalid_argument if these do not go together, std::length_error if they are too large.
Geometry make_geometry(const std::array<int64_t, 4>& images, const std::array<int64_t, 4>& kernel,
                       int64_t stride, const std::array<int64_t, 4>& pad);

// Which of the passes a structure is for.
enum class Kind { kForward, kInputGradient };

// Returns the number of lanes, of 4, 8, ... `most`, that `samples` fill best.
int choose_lanes(int64_t samples, int most);

// Everything about a pass but the values of weights and where activations are in memory.
class Structure {
 public:
  // `mask` has the kernel's shape. With kForward the passes are that of outputs from inputs, and
  // that of the kernel's gradient; with kInputGradient, that of the inputs' gradient. Throws
  // std::length_error if offsets would not fit into 32 bits, or are too many.
  Structure(const Geometry& geometry, Kind kind, int lanes, const bool* mask);

  // Whether it holds for this convolution and mask, too: the batch may be another.
  bool fits(const Geometry& geometry, int lanes, const bool* mask) const;

  int lanes() const { return lanes_; }
  // The number of entries, unused ones included.
  int64_t size() const { return size_; }
  // The entries' weights in `kernel`; 0 for unused ones.
  std::vector<float> values(const float* kernel) const;
  // The inverse: puts what the entries have into the kernel's shape, 0 where there is no entry.
  void spread(const float* entries, float* kernel) const;

  // Describes a pass without values of entries yet. It points into this structure and into
  // `phases`.
  Pass pass(const Geometry& geometry, std::vector<Phase>* phases) const;

 private:
  struct Tap {  // a position in the kernel, and the pixel it sees from pixel 0 of a phase
    int ky, kx, y, x;
  };
  struct Place {  // the index of a weight in the kernel, and its entry
    int32_t weight, entry;
  };
  void find_taps();
  void lay_out();
  void place_entries();

  Geometry geometry_;
  Kind kind_;
  int lanes_;
  std::vector<char> mask_;
  int step_, source_channels_, target_channels_;
  std::vector<std::vector<Tap>> taps_;  // by phase
  int first_y_, first_x_, extent_y_, extent_x_;
  int columns_, block_, blocks_;
  ptrdiff_t plane_;
  std::vector<Run> runs_;  // by phase, block and target channel
  std::vector<int32_t> offsets_;  // as in Pass
  // By weight, since kernels are larger than what is kept of them, and memory is best read in order.
  std::vector<Place> places_;
  int64_t size_ = 0;
};

}  // namespace spfde

#endif  // SPFDE_STRUCTURE_H_
