// Numbers the kept weights, and finds out what each of them multiplies.
#include "engine/structure.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

namespace spfde {
namespace {

// What a tile sees of a block of channels: it should stay in a core's own L1. Where few weights are
// kept, going through them in many blocks costs more than leaving it.
constexpr int64_t kTileBytes = 32 << 10, kMostTileBytes = 64 << 10;
constexpr int64_t kWorthwhileEntries = 8;  // of an output channel, in a block

constexpr int64_t kMostOffset = std::numeric_limits<int32_t>::max();
constexpr int64_t kMostOffsets = 1 << 29;  // 2 GiB

// Columns of the grid in which pointwise convolutions arrange vectors of pixels.
int pointwise_columns(const Geometry& geometry, int lanes) {
  return int(std::clamp<int64_t>(divide_up(geometry.samples(), lanes), 1, kTile));
}

Layout images(const Geometry& geometry, int height, int width, int channels, int lanes) {
  Layout layout{};
  layout.height = height;
  layout.width = width;
  layout.channels = channels;
  layout.lane = ptrdiff_t(height) * width * channels;
  layout.group = layout.lane * lanes;
  layout.row = ptrdiff_t(width) * channels;
  layout.column = channels;
  layout.groups = divide_up(geometry.batch, lanes);
  layout.total = geometry.batch;
  layout.group_lanes = lanes;
  return layout;
}

Layout pixels(const Geometry& geometry, int channels, int lanes) {
  Layout layout{};
  layout.width = pointwise_columns(geometry, lanes);
  layout.height = int(divide_up(geometry.samples(), int64_t(lanes) * layout.width));
  layout.channels = channels;
  layout.lane = channels;
  layout.column = ptrdiff_t(channels) * lanes;
  layout.row = layout.column * layout.width;
  layout.groups = 1;
  layout.total = geometry.samples();
  layout.column_lanes = lanes;
  layout.row_lanes = int64_t(lanes) * layout.width;
  return layout;
}

Layout columns(const Geometry& geometry, int height, int channels, int lanes) {
  Layout layout{};
  layout.width = int(divide_up(geometry.src_width, lanes));
  layout.height = height;
  layout.channels = channels;
  layout.lane = channels;
  layout.column = ptrdiff_t(channels) * lanes;
  layout.row = ptrdiff_t(geometry.src_width) * channels;
  layout.group = layout.row * height;
  layout.groups = geometry.batch;
  layout.total = geometry.src_width;
  layout.column_lanes = lanes;
  return layout;
}

}  // namespace

int choose_lanes(int64_t samples, int most) {
  int lanes = most;
  while (lanes > 4 && samples <= lanes / 2) lanes /= 2;
  return lanes;
}

Structure::Structure(const Geometry& geometry, Direction direction, int lanes, const bool* mask)
    : geometry_(geometry), direction_(direction), lanes_(lanes) {
  const Geometry& g = geometry_;
  const bool forward = direction == Direction::kForward;
  mask_.assign(reinterpret_cast<const char*>(mask),
               reinterpret_cast<const char*>(mask) + g.weights());
  dst_stride_ = forward ? 1 : g.stride;
  src_channels_ = forward ? g.src_channels : g.dst_channels;
  dst_channels_ = forward ? g.dst_channels : g.src_channels;
  find_taps();
  lay_out();
  number_entries();
}

void Structure::find_taps() {
  const Geometry& g = geometry_;
  taps_.resize(size_t(dst_stride_) * dst_stride_);
  first_y_ = first_x_ = std::numeric_limits<int>::max();
  int last_y = std::numeric_limits<int>::min(), last_x = last_y;
  for (int ky = 0; ky < g.kernel_height; ++ky)
    for (int kx = 0; kx < g.kernel_width; ++kx)
      for (int phase = 0; phase < dst_stride_ * dst_stride_; ++phase) {
        Tap tap{ky, kx, ky - g.pad_top, kx - g.pad_left};
        if (direction_ == Direction::kBackwardData) {
          // Pixel y of src was seen through ky by pixel (y + pad - ky) / stride of dst.
          const int y = phase / dst_stride_ - tap.y, x = phase % dst_stride_ - tap.x;
          if (y % dst_stride_ != 0 || x % dst_stride_ != 0) continue;
          tap.y = y / dst_stride_;
          tap.x = x / dst_stride_;
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
  const bool forward = direction_ == Direction::kForward;
  const int stride = forward ? g.stride : 1;
  int width = forward ? g.dst_width : int(divide_up(g.src_width, dst_stride_));
  if (g.pointwise()) width = pointwise_columns(g, lanes_);
  if (g.columns_apart()) width = int(divide_up(g.src_width, lanes_));
  packed_width_ = (width - 1) * stride + extent_x_;
  if (product_up_to(kMostOffset, {src_channels_, extent_y_, packed_width_ + 1, lanes_}) >
      kMostOffset)
    throw std::length_error(
        "what a row of outputs sees must not have more than 2^31 - 1 values. Received: " +
        std::to_string(extent_y_) + " rows of " + std::to_string(packed_width_) + " pixels with " +
        std::to_string(src_channels_) + " channels, of " + std::to_string(lanes_) + " images");
  // Channels an odd number of vectors apart do not compete for the same lines of the cache.
  channel_stride_ = (ptrdiff_t(extent_y_) * packed_width_ | 1) * lanes_;
  const int64_t vector_bytes = int64_t(lanes_) * int64_t(sizeof(float));
  const int64_t seen = vector_bytes * extent_y_ * ((kTile - 1) * stride + extent_x_);
  const int64_t kept = std::count(mask_.begin(), mask_.end(), 1);
  const int64_t pairs = int64_t(src_channels_) * dst_channels_;
  const int64_t worth = divide_up(kWorthwhileEntries * pairs, std::max<int64_t>(kept, 1));
  const int64_t channels = std::clamp(worth, kTileBytes / seen, kMostTileBytes / seen);
  block_ = int(std::min<int64_t>(std::max<int64_t>(4, channels / 4 * 4), src_channels_));
  blocks_ = int(divide_up(src_channels_, block_));
}

void Structure::number_entries() {
  const Geometry& g = geometry_;
  const bool forward = direction_ == Direction::kForward;
  const size_t per_phase = size_t(blocks_) * dst_channels_;
  spans_.assign(taps_.size() * per_phase, EntrySpan{0, 0});
  // Twice through the same weights: to count them, and to number them.
  auto each = [&](auto&& visit) {
    for (size_t phase = 0; phase < taps_.size(); ++phase)
      for (int i = 0; i < g.src_channels; ++i)
        for (const Tap& tap : taps_[phase]) {
          const int64_t begin =
              ((int64_t(tap.ky) * g.kernel_width + tap.kx) * g.src_channels + i) * g.dst_channels;
          for (int o = 0; o < g.dst_channels; ++o) {
            if (!mask_[begin + o]) continue;
            const int src = forward ? i : o, dst = forward ? o : i;
            visit(spans_[phase * per_phase + size_t(src / block_) * dst_channels_ + dst], src, tap,
                  int32_t(begin + o));
          }
        }
  };
  each([](EntrySpan& span, int, const Tap&, int32_t) { ++span.count; });
  for (EntrySpan& span : spans_) {
    span.begin = int32_t(entries_);
    entries_ += divide_up(span.count, kGroup) * kGroup;
    span.count = 0;
  }
  if (product_up_to(kMostOffsets, {entries_, extent_y_}) > kMostOffsets)
    throw std::length_error(
        "kept weights, times rows of the kernel, must not be more than 2^29. Received: " +
        std::to_string(entries_) + " times " + std::to_string(extent_y_));
  offsets_.assign(size_t(extent_y_) * entries_, 0);
  entry_indices_.reserve(std::count(mask_.begin(), mask_.end(), 1));
  std::vector<int32_t> numbers(mask_.size());
  each([&](EntrySpan& span, int src, const Tap& tap, int32_t weight) {
    const int32_t entry = numbers[weight] = span.begin + span.count++;
    for (int begin = 0; begin < extent_y_; ++begin) {
      const int row = (begin + tap.y - first_y_) % extent_y_;
      const ptrdiff_t pixel = ptrdiff_t(row) * packed_width_ + (tap.x - first_x_);
      const ptrdiff_t offset = src * channel_stride_ + pixel * lanes_;
      assert(offset >= 0 && offset + lanes_ <= src_channels_ * channel_stride_);
      offsets_[size_t(begin) * entries_ + entry] = int32_t(offset);
    }
  });
  for (size_t weight = 0; weight < mask_.size(); ++weight)
    if (mask_[weight]) entry_indices_.push_back(EntryIndex{int32_t(weight), numbers[weight]});
}

bool Structure::fits(const Geometry& geometry, int lanes, const bool* mask) const {
  Geometry same = geometry;
  same.batch = geometry_.batch;
  if (geometry.pointwise() && geometry_.pointwise()) {
    if (pointwise_columns(geometry, lanes) != pointwise_columns(geometry_, lanes)) return false;
    same.src_height = geometry_.src_height;
    same.src_width = geometry_.src_width;
    same.dst_height = geometry_.dst_height;
    same.dst_width = geometry_.dst_width;
  }
  return lanes == lanes_ && same == geometry_ && std::memcmp(mask, mask_.data(), mask_.size()) == 0;
}

std::vector<float> Structure::gather(const float* weights) const {
  std::vector<float> values(entries_);
  for (const EntryIndex& index : entry_indices_) values[index.entry] = weights[index.weight];
  return values;
}

void Structure::scatter(const float* entries, float* weights) const {
  std::fill(weights, weights + mask_.size(), 0.0f);
  for (const EntryIndex& index : entry_indices_) weights[index.weight] = entries[index.entry];
}

Pass Structure::pass(const Geometry& geometry, std::vector<Phase>* phases) const {
  const Geometry& g = geometry;
  assert(g.src_channels == geometry_.src_channels && g.dst_channels == geometry_.dst_channels);
  assert(g.pointwise() == geometry_.pointwise());
  const bool forward = direction_ == Direction::kForward;
  Pass pass{};
  if (g.pointwise()) {
    pass.src = pixels(g, src_channels_, lanes_);
    pass.dst = pixels(g, dst_channels_, lanes_);
  } else if (g.columns_apart()) {
    const Layout src = columns(g, g.src_height, g.src_channels, lanes_);
    const Layout dst = columns(g, g.dst_height, g.dst_channels, lanes_);
    pass.src = forward ? src : dst;
    pass.dst = forward ? dst : src;
  } else {
    const Layout src = images(g, g.src_height, g.src_width, g.src_channels, lanes_);
    const Layout dst = images(g, g.dst_height, g.dst_width, g.dst_channels, lanes_);
    pass.src = forward ? src : dst;
    pass.dst = forward ? dst : src;
  }
  phases->clear();
  for (int k = 0; k < dst_stride_ * dst_stride_; ++k) {
    const int y0 = k / dst_stride_, x0 = k % dst_stride_;
    phases->push_back(Phase{y0, x0, int(divide_up(pass.dst.height - y0, dst_stride_)),
                            int(divide_up(pass.dst.width - x0, dst_stride_)),
                            spans_.data() + size_t(k) * blocks_ * dst_channels_});
  }
  pass.src_stride = forward ? g.stride : 1;
  pass.dst_stride = dst_stride_;
  pass.first_y = first_y_;
  pass.first_x = first_x_;
  pass.ring_rows = extent_y_;
  pass.packed_width = packed_width_;
  pass.channel_stride = channel_stride_;
  pass.blocks = blocks_;
  pass.phases = dst_stride_ * dst_stride_;
  pass.phase = phases->data();
  pass.entries = ptrdiff_t(entries_);
  pass.offsets = offsets_.data();
  return pass;
}

}  // namespace spfde
