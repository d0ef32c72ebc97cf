// The shape of a convolution, and which shapes the engine takes.
//
// Every Geometry comes from make_geometry(), so that all other files may assume what it checks:
// sums and differences of a few extents fit into an int, products of all in 64 bits.
#ifndef SPFDE_ENGINE_GEOMETRY_H_
#define SPFDE_ENGINE_GEOMETRY_H_

#include <array>
#include <cstdint>

namespace spfde {

// Fewest columns that fill the lanes of vectors: tiles should be more than a vector or two wide.
constexpr int kMostlyColumns = 64;

// src is (batch, src_height, src_width, src_channels), weights are (kernel_height, kernel_width,
// src_channels, dst_channels), dst is (batch, dst_height, dst_width, dst_channels), all in that
// order in memory.
struct Geometry {
  int64_t batch;
  int src_height, src_width, src_channels;
  int dst_height, dst_width, dst_channels;
  int kernel_height, kernel_width, stride, pad_top, pad_left;

  // Whether a pixel of dst sees one pixel of src only, the same. Pixels are then rows of a matrix,
  // whatever image they are of.
  bool pointwise() const {
    return kernel_height == 1 && kernel_width == 1 && stride == 1 && pad_top == 0 && pad_left == 0;
  }
  // Whether lanes are pixels of one row: each sees its own column only, and there are many.
  bool columns_apart() const {
    return kernel_width == 1 && stride == 1 && src_width >= kMostlyColumns && !pointwise();
  }
  int64_t weights() const {
    return int64_t(kernel_height) * kernel_width * src_channels * dst_channels;
  }
  // What can fill the lanes of vectors: pixels, pixels of a row, or images.
  int64_t samples() const {
    return pointwise() ? batch * src_height * src_width : columns_apart() ? src_width : batch;
  }

  bool operator==(const Geometry& other) const;
};

// Returns the convolution of images (batch, height, width, channels) with a kernel (rows, columns,
// channels, outputs), where `pad` pixels are added at the top, bottom, left and right. Throws
// std::invalid_argument if these do not go together, std::length_error if they are too large.
Geometry make_geometry(const std::array<int64_t, 4>& images, const std::array<int64_t, 4>& kernel,
                       int64_t stride, const std::array<int64_t, 4>& pad);

// The product of numbers that are not negative, or `most + 1` if it is larger than `most`.
int64_t product_up_to(int64_t most, std::initializer_list<int64_t> factors);

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace spfde

#endif  // SPFDE_ENGINE_GEOMETRY_H_
