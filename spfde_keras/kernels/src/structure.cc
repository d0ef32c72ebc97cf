#include "structure.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>

namespace spfde {
namespace {

// What a tile sees of a block of channels: it should stay in a core's own L1. Where few weights are
// kept, going through them in many blocks costs more than leaving it.
constexpr int64_t kTileBytes = 32 << 10, kMostTileBytes = 64 << 10;
constexpr int64_t kRun = 8;  // weights of an output channel and block worth having

// Sums of a few sizes up to this one fit into an int.
constexpr int64_t kMostExtent = 1 << 29;
constexpr int64_t kMostSamples = int64_t(1) << 36;  // rows of pointwise_columns() fit into an int
constexpr int64_t kMostOffsets = 1 << 29;           // 2 GiB
constexpr int64_t kMostInt32 = std::numeric_limits<int32_t>::max();

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The product of numbers that are not negative, or `most + 1` if it is larger than `most`.
int64_t product_up_to(int64_t most, std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (int64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) product = most + 1;
    product = std::min(product, most + 1);
  }
  return product;
}

std::string shown(const std::array<int64_t, 4>& sizes) {
  std::string text;
  for (int64_t size : sizes) text += (text.empty() ? "(" : ", ") + std::to_string(size);
  return text + ")";
}

// Columns of the grid in which pointwise convolutions arrange vectors of pixels.
int pointwise_columns(const Geometry& geometry, int lanes) {
  return int(std::clamp<int64_t>(divide_up(geometry.samples(), lanes), 1, kTile));
}

Layout images(const Geometry& geometry, int height, int width, int channels, int lanes) {
  Layout layout;
  layout.height = height;
  layout.width = width;
  layout.channels = channels;
  layout.lane = ptrdiff_t(height) * width * channels;
  layout.group = layout.lane * lanes;
  layout.row = ptrdiff_t(width) * channels;
  layout.column = channels;
  layout.total = geometry.batch;
  layout.group_lanes = lanes;
  layout.row_lanes = layout.column_lanes = 0;
  return layout;
}

Layout pixels(const Geometry& geometry, int channels, int lanes) {
  Layout layout;
  layout.width = pointwise_columns(geometry, lanes);
  layout.height = int(divide_up(geometry.samples(), int64_t(lanes) * layout.width));
  layout.channels = channels;
  layout.lane = channels;
  layout.group = 0;
  layout.column = ptrdiff_t(channels) * lanes;
  layout.row = layout.column * layout.width;
  layout.total = geometry.samples();
  layout.group_lanes = 0;
  layout.column_lanes = lanes;
  layout.row_lanes = int64_t(lanes) * layout.width;
  return layout;
}

}  // namespace

bool Geometry::operator==(const Geometry& other) const {
  auto tied = [](const Geometry& g) {
    return std::tie(g.batch, g.height, g.width, g.inputs, g.outputs, g.kernel_height,
                    g.kernel_width, g.stride, g.pad_top, g.pad_left, g.out_height, g.out_width);
  };
  return tied(*this) == tied(other);
}

Geometry make_geometry(const std::array<int64_t, 4>& images, const std::array<int64_t, 4>& kernel,
                       int64_t stride, const std::array<int64_t, 4>& pad) {
  const std::string received = ". Received: images " + shown(images) + ", kernel " +
                               shown(kernel) + ", stride " + std::to_string(stride) + ", pad " +
                               shown(pad);
  auto require = [&](bool right, const char* rule) {
    if (!right) throw std::invalid_argument(rule + received);
  };
  require(stride == 1 || stride == 2, "`stride` must be 1 or 2");
  require(images[0] >= 0 && images[1] > 0 && images[2] > 0,
          "`images` must have pixels");
  require(*std::min_element(kernel.begin(), kernel.end()) > 0, "`kernel` must have weights");
  require(images[3] == kernel[2], "`images` must have the channels that `kernel` takes");
  int64_t out[2];
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t size = images[1 + axis], extent = kernel[axis];
    const int64_t before = pad[2 * axis], behind = pad[2 * axis + 1];
    // More would add outputs that see no pixel.
    require(before >= 0 && before < extent && behind >= 0 && behind < extent,
            "`pad` must be at least 0 and less than the kernel's size");
    if (size > kMostExtent || extent > kMostExtent)
      throw std::length_error("images and kernel must not be larger than 2^29" + received);
    require(extent <= size + before + behind, "`kernel` must not be larger than padded `images`");
    out[axis] = (size + before + behind - extent) / stride + 1;
  }
  if (product_up_to(kMostInt32, {kernel[0], kernel[1], kernel[2], kernel[3]}) > kMostInt32 ||
      std::max(kernel[2], kernel[3]) > kMostExtent)
    throw std::length_error("`kernel` must not have more than 2^31 - 1 weights or 2^29 channels" +
                            received);
  if (product_up_to(kMostSamples, {images[0], images[1], images[2]}) > kMostSamples)
    throw std::length_error("`images` must not have more than 2^36 pixels" + received);
  Geometry g;
  g.batch = images[0];
  g.height = int(images[1]);
  g.width = int(images[2]);
  g.kernel_height = int(kernel[0]);
  g.kernel_width = int(kernel[1]);
  g.inputs = int(kernel[2]);
  g.outputs = int(kernel[3]);
  g.stride = int(stride);
  g.pad_top = int(pad[0]);
  g.pad_left = int(pad[2]);
  g.out_height = int(out[0]);
  g.out_width = int(out[1]);
  return g;
}

int choose_lanes(int64_t samples, int most) {
  int lanes = most;
  while (lanes > 4 && samples <= lanes / 2) lanes /= 2;
  return lanes;
}

Structure::Structure(const Geometry& geometry, Kind kind, int lanes, const bool* mask)
    : geometry_(geometry), kind_(kind), lanes_(lanes) {
  const Geometry& g = geometry_;
  const bool forward = kind == Kind::kForward;
  mask_.assign(reinterpret_cast<const char*>(mask),
               reinterpret_cast<const char*>(mask) + g.weights());
  step_ = forward ? 1 : g.stride;
  source_channels_ = forward ? g.inputs : g.outputs;
  target_channels_ = forward ? g.outputs : g.inputs;
  find_taps();
  lay_out();
  place_entries();
}

void Structure::find_taps() {
  const Geometry& g = geometry_;
  taps_.resize(size_t(step_) * step_);
  first_y_ = first_x_ = 1 << 30;
  int last_y = -(1 << 30), last_x = -(1 << 30);
  for (int ky = 0; ky < g.kernel_height; ++ky)
    for (int kx = 0; kx < g.kernel_width; ++kx)
      for (int phase = 0; phase < step_ * step_; ++phase) {
        Tap tap{ky, kx, ky - g.pad_top, kx - g.pad_left};
        if (kind_ == Kind::kInputGradient) {
          // Pixel y of the image was seen through ky by pixel (y + pad - ky) / stride.
          const int y = phase / step_ - tap.y, x = phase % step_ - tap.x;
          if (y % step_ != 0 || x % step_ != 0) continue;
          tap.y = y / step_;
          tap.x = x / step_;
        }
        taps_[phase].push_back(tap);
        first_y_ = std::min(first_y_, tap.y);
        first_x_ = std::min(first_x_, tap.x);
        last_y = std::max(last_y, tap.y);
        last_x = std::max(last_x, tap.x);
      }
  extent_y_ = last_y - first_y_ + 1;
  extent_x_ = last_x - first_x_ + 1;
}

void Structure::lay_out() {
  const Geometry& g = geometry_;
  const bool forward = kind_ == Kind::kForward;
  const int stride = forward ? g.stride : 1;
  int width = forward ? g.out_width : int(divide_up(g.width, step_));
  if (g.pointwise()) width = pointwise_columns(g, lanes_);
  columns_ = (width - 1) * stride + extent_x_;
  if (product_up_to(kMostInt32, {source_channels_, extent_y_, columns_ + int64_t(1), lanes_}) >
      kMostInt32)
    throw std::length_error(
        "what a row of outputs sees must not have more than 2^31 - 1 values: " +
        std::to_string(extent_y_) + " rows of " + std::to_string(columns_) + " pixels with " +
        std::to_string(source_channels_) + " channels, of " + std::to_string(lanes_) + " images");
  // Planes an odd number of vectors apart do not compete for the same lines of the cache.
  plane_ = (ptrdiff_t(extent_y_) * columns_ | 1) * lanes_;
  const int64_t vector_bytes = int64_t(lanes_) * sizeof(float);
  const int64_t seen = vector_bytes * extent_y_ * ((kTile - 1) * stride + extent_x_);
  const int64_t kept = std::count(mask_.begin(), mask_.end(), 1);
  const int64_t pairs = int64_t(source_channels_) * target_channels_;
  const int64_t worth = divide_up(kRun * pairs, std::max<int64_t>(kept, 1));
  const int64_t channels = std::clamp(worth, kTileBytes / seen, kMostTileBytes / seen);
  block_ = int(std::min<int64_t>(std::max<int64_t>(4, channels / 4 * 4), source_channels_));
  blocks_ = int(divide_up(source_channels_, block_));
}

void Structure::place_entries() {
  const Geometry& g = geometry_;
  const bool forward = kind_ == Kind::kForward;
  const size_t per_phase = size_t(blocks_) * target_channels_;
  runs_.assign(taps_.size() * per_phase, Run{0, 0});
  // Twice through the same weights: to count them, and to put them where they belong.
  auto each = [&](auto&& visit) {
    for (size_t phase = 0; phase < taps_.size(); ++phase)
      for (int i = 0; i < g.inputs; ++i)
        for (const Tap& tap : taps_[phase]) {
          const int64_t begin =
              ((int64_t(tap.ky) * g.kernel_width + tap.kx) * g.inputs + i) * g.outputs;
          for (int o = 0; o < g.outputs; ++o) {
            if (!mask_[begin + o]) continue;
            const int source = forward ? i : o, target = forward ? o : i;
            Run& run = runs_[phase * per_phase + size_t(source / block_) * target_channels_ + target];
            visit(run, source, tap, int32_t(begin + o));
          }
        }
  };
  each([](Run& run, int, const Tap&, int32_t) { ++run.count; });
  for (Run& run : runs_) {
    run.begin = int32_t(size_);
    size_ += divide_up(run.count, kGroup) * kGroup;
    run.count = 0;
  }
  if (product_up_to(kMostOffsets, {size_, extent_y_}) > kMostOffsets)
    throw std::length_error("kept weights times rows of the kernel must not be more than 2^29: " +
                            std::to_string(size_) + " times " + std::to_string(extent_y_));
  offsets_.assign(size_t(extent_y_) * size_, 0);
  places_.reserve(std::count(mask_.begin(), mask_.end(), 1));
  std::vector<int32_t> entries(mask_.size());
  each([&](Run& run, int source, const Tap& tap, int32_t weight) {
    const int32_t entry = entries[weight] = run.begin + run.count++;
    for (int begin = 0; begin < extent_y_; ++begin) {
      const int row = (begin + tap.y - first_y_) % extent_y_;
      offsets_[size_t(begin) * size_ + entry] = int32_t(
          source * plane_ + (ptrdiff_t(row) * columns_ + (tap.x - first_x_)) * lanes_);
    }
  });
  for (size_t weight = 0; weight < mask_.size(); ++weight)
    if (mask_[weight]) places_.push_back(Place{int32_t(weight), entries[weight]});
}

bool Structure::fits(const Geometry& geometry, int lanes, const bool* mask) const {
  Geometry same = geometry;
  same.batch = geometry_.batch;
  if (geometry.pointwise() && geometry_.pointwise()) {
    if (pointwise_columns(geometry, lanes) != pointwise_columns(geometry_, lanes)) return false;
    same.height = geometry_.height;
    same.width = geometry_.width;
    same.out_height = geometry_.out_height;
    same.out_width = geometry_.out_width;
  }
  return lanes == lanes_ && same == geometry_ && std::memcmp(mask, mask_.data(), mask_.size()) == 0;
}

std::vector<float> Structure::values(const float* kernel) const {
  std::vector<float> values(size_);
  for (const Place& place : places_) values[place.entry] = kernel[place.weight];
  return values;
}

void Structure::spread(const float* entries, float* kernel) const {
  std::fill(kernel, kernel + mask_.size(), 0.0f);
  for (const Place& place : places_) kernel[place.weight] = entries[place.entry];
}

Pass Structure::pass(const Geometry& geometry, std::vector<Phase>* phases) const {
  const Geometry& g = geometry;
  const bool forward = kind_ == Kind::kForward;
  Pass pass;
  if (g.pointwise()) {
    pass.source = pixels(g, source_channels_, lanes_);
    pass.target = pixels(g, target_channels_, lanes_);
  } else {
    const Layout in = images(g, g.height, g.width, g.inputs, lanes_);
    const Layout out = images(g, g.out_height, g.out_width, g.outputs, lanes_);
    pass.source = forward ? in : out;
    pass.target = forward ? out : in;
  }
  phases->clear();
  for (int k = 0; k < step_ * step_; ++k) {
    const int y0 = k / step_, x0 = k % step_;
    phases->push_back(Phase{y0, x0, int(divide_up(pass.target.height - y0, step_)),
                            int(divide_up(pass.target.width - x0, step_)),
                            runs_.data() + size_t(k) * blocks_ * target_channels_});
  }
  pass.stride = forward ? g.stride : 1;
  pass.step = step_;
  pass.first_y = first_y_;
  pass.first_x = first_x_;
  pass.rows = extent_y_;
  pass.columns = columns_;
  pass.plane = plane_;
  pass.blocks = blocks_;
  pass.phases = step_ * step_;
  pass.phase = phases->data();
  pass.entries = ptrdiff_t(size_);
  pass.offsets = offsets_.data();
  pass.values = nullptr;
  return pass;
}

}  // namespace spfde
