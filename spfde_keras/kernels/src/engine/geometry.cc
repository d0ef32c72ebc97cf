// Checks the shape of a convolution, in 64 bits, before anything is made of it.
#include "engine/geometry.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>

namespace spfde {
namespace {

constexpr int64_t kMostExtent = 1 << 29;  // sums of a few such extents fit into an int
constexpr int64_t kMostWeights = std::numeric_limits<int32_t>::max();
constexpr int64_t kMostPixels = int64_t(1) << 36;  // a row of Structure's grid of them fits as well

std::string shown(const std::array<int64_t, 4>& sizes) {
  std::string text;
  for (int64_t size : sizes) text += (text.empty() ? "(" : ", ") + std::to_string(size);
  return text + ")";
}

}  // namespace

bool Geometry::operator==(const Geometry& other) const {
  auto tied = [](const Geometry& g) {
    return std::tie(g.batch, g.src_height, g.src_width, g.src_channels, g.dst_height, g.dst_width,
                    g.dst_channels, g.kernel_height, g.kernel_width, g.stride, g.pad_top,
                    g.pad_left);
  };
  return tied(*this) == tied(other);
}

int64_t product_up_to(int64_t most, std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (int64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) product = most + 1;
    product = std::min(product, most + 1);
  }
  return product;
}

Geometry make_geometry(const std::array<int64_t, 4>& images, const std::array<int64_t, 4>& kernel,
                       int64_t stride, const std::array<int64_t, 4>& pad) {
  auto message = [&](const char* rule) {
    return std::string(rule) + ". Received: images " + shown(images) + ", kernel " + shown(kernel) +
           ", stride " + std::to_string(stride) + ", pad " + shown(pad);
  };
  auto require = [&](bool right, const char* rule) {
    if (!right) throw std::invalid_argument(message(rule));
  };
  auto require_size = [&](bool right, const char* rule) {
    if (!right) throw std::length_error(message(rule));
  };
  require(stride == 1 || stride == 2, "`stride` must be 1 or 2");
  require(images[0] >= 0 && images[1] > 0 && images[2] > 0, "`images` must have pixels");
  require(*std::min_element(kernel.begin(), kernel.end()) > 0, "`kernel` must have weights");
  require(images[3] == kernel[2], "`images` must have the channels that `kernel` takes");
  std::array<int64_t, 2> out{};
  for (size_t axis = 0; axis < 2; ++axis) {
    const int64_t size = images[1 + axis], extent = kernel[axis];
    const int64_t before = pad[2 * axis], behind = pad[2 * axis + 1];
    // More would add outputs that see no pixel, less would leave pixels out.
    require(before >= 0 && before < extent && behind >= 0 && behind < extent,
            "`pad` must be at least 0 and less than the kernel's size");
    require_size(size <= kMostExtent && extent <= kMostExtent,
                 "`images` and `kernel` must not be higher or wider than 2^29");
    require(extent <= size + before + behind, "`kernel` must not be larger than padded `images`");
    out[axis] = (size + before + behind - extent) / stride + 1;
  }
  require_size(kernel[2] <= kMostExtent && kernel[3] <= kMostExtent,
               "`kernel` must not have more than 2^29 channels");
  require_size(
      product_up_to(kMostWeights, {kernel[0], kernel[1], kernel[2], kernel[3]}) <= kMostWeights,
      "`kernel` must not have more than 2^31 - 1 weights");
  require_size(product_up_to(kMostPixels, {images[0], images[1], images[2]}) <= kMostPixels,
               "`images` must not have more than 2^36 pixels");
  Geometry g{};
  g.batch = images[0];
  g.src_height = int(images[1]);
  g.src_width = int(images[2]);
  g.src_channels = int(kernel[2]);
  g.dst_height = int(out[0]);
  g.dst_width = int(out[1]);
  g.dst_channels = int(kernel[3]);
  g.kernel_height = int(kernel[0]);
  g.kernel_width = int(kernel[1]);
  g.stride = int(stride);
  g.pad_top = int(pad[0]);
  g.pad_left = int(pad[2]);
  return g;
}

}  // namespace spfde
