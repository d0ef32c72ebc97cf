#include "run.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace spfde {
namespace {

// Memory of a thread that stays, since a system's allocator hands out fresh pages each time; and in
// huge pages, where there are any: tiles jump through more of it than a processor keeps addresses of
// small ones.
class Scratch {
 public:
  ~Scratch() { std::free(memory_); }
  float* get(size_t floats) {
    const size_t bytes = (floats * sizeof(float) + kHugePage - 1) / kHugePage * kHugePage;
    if (bytes > bytes_) {
      std::free(memory_);
      bytes_ = 0;
      memory_ = static_cast<float*>(std::aligned_alloc(kHugePage, bytes));
      if (memory_ == nullptr) throw std::bad_alloc();
      bytes_ = bytes;
#ifdef MADV_HUGEPAGE
      madvise(memory_, bytes, MADV_HUGEPAGE);
#endif
    }
    return memory_;
  }

 private:
  static constexpr size_t kHugePage = 2 << 20;
  size_t bytes_ = 0;
  float* memory_ = nullptr;
};
thread_local Scratch scratch;

int64_t all_rows(const Pass& pass) {
  const Layout& layout = pass.source;
  const int64_t groups =
      layout.group_lanes ? (layout.total + layout.group_lanes - 1) / layout.group_lanes : 1;
  return groups * pass.phase[0].height;
}

// The gradient of a kernel: each chunk sums up its own, and these are added in their order.
class Gradient {
 public:
  Gradient(const Structure& structure, int64_t rows, const Threads& threads)
      : structure_(structure), rows_(rows), threads_(threads),
        chunks_(threads.chunks(rows)),
        sums_(new float[chunks_ * structure.size()]) {}

  void each_chunk(const std::function<void(float*, int64_t, int64_t)>& compute) {
    threads_.each_chunk(rows_, [&](int64_t chunk, int64_t first, int64_t last) {
      float* sums = sums_.get() + chunk * structure_.size();
      std::fill(sums, sums + structure_.size(), 0.0f);
      compute(sums, first, last);
    });
  }

  // Writes the gradient in the kernel's shape, 0 where there are no entries.
  void write(float* gradient) {
    const int64_t size = structure_.size();
    if (chunks_ == 0) return structure_.spread(std::vector<float>(size).data(), gradient);
    float* total = sums_.get();
    for (int64_t chunk = 1; chunk < chunks_; ++chunk) {
      const float* sums = total + chunk * size;
      for (int64_t e = 0; e < size; ++e) total[e] += sums[e];
    }
    structure_.spread(total, gradient);
  }

 private:
  const Structure& structure_;
  const int64_t rows_;
  const Threads& threads_;
  const int64_t chunks_;
  const std::unique_ptr<float[]> sums_;
};

}  // namespace

std::shared_ptr<const Structure> StructureCache::get(const Geometry& geometry, int lanes,
                                                     const bool* mask) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = std::find_if(recent_.begin(), recent_.end(), [&](const auto& structure) {
    return structure->fits(geometry, lanes, mask);
  });
  if (found == recent_.end()) {
    if (recent_.size() == kMost) recent_.pop_back();
    recent_.push_back(std::make_shared<Structure>(geometry, kind_, lanes, mask));
    found = recent_.end() - 1;
  }
  std::rotate(recent_.begin(), found, found + 1);
  return recent_.front();
}

void convolve(const Isa& isa, const Structure& structure, const Geometry& geometry,
              const float* kernel, const Source& source, float* target, const Threads& threads) {
  std::vector<Phase> phases;
  Pass pass = structure.pass(geometry, &phases);
  const std::vector<float> values = structure.values(kernel);
  pass.values = values.data();
  const Engine* engine = isa.engine(structure.lanes());
  threads.each_chunk(all_rows(pass), [&](int64_t, int64_t first, int64_t last) {
    float* memory = scratch.get(packed_floats(pass) + sum_floats(pass, structure.lanes()));
    engine->convolve(pass, source, target, first, last, memory);
  });
}

void correlate(const Isa& isa, const Structure& structure, const Geometry& geometry,
               const Source& source, const Source& target_gradient, float* kernel_gradient,
               const Threads& threads) {
  std::vector<Phase> phases;
  Pass pass = structure.pass(geometry, &phases);
  const Engine* engine = isa.engine(structure.lanes());
  Gradient gradient(structure, all_rows(pass), threads);
  gradient.each_chunk([&](float* sums, int64_t first, int64_t last) {
    float* memory = scratch.get(packed_floats(pass) + output_floats(pass, structure.lanes()));
    engine->correlate(pass, source, target_gradient, first, last, sums, memory);
  });
  gradient.write(kernel_gradient);
}

void differentiate(const Isa& isa, const Structure& forward, const Structure& backward,
                   const Geometry& geometry, const float* kernel, const Source& source,
                   const Source& target_gradient, float* source_gradient, float* kernel_gradient,
                   const Threads& threads) {
  std::vector<Phase> phases, back_phases;
  Pass pass = forward.pass(geometry, &phases), back = backward.pass(geometry, &back_phases);
  if (geometry.stride != 1 || pass.target.height > back.target.height ||
      pass.target.width > back.target.width) {
    convolve(isa, backward, geometry, kernel, target_gradient, source_gradient, threads);
    correlate(isa, forward, geometry, source, target_gradient, kernel_gradient, threads);
    return;
  }
  const std::vector<float> values = backward.values(kernel);
  back.values = values.data();
  const Engine* engine = isa.engine(forward.lanes());
  Gradient gradient(forward, all_rows(back), threads);
  gradient.each_chunk([&](float* sums, int64_t first, int64_t last) {
    float* memory = scratch.get(packed_floats(pass) + packed_floats(back) +
                                sum_floats(back, forward.lanes()));
    engine->differentiate(pass, back, source, target_gradient, first, last, source_gradient, sums,
                          memory);
  });
  gradient.write(kernel_gradient);
}

}  // namespace spfde
