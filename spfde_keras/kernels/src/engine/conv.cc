// Divides the rows of a convolution among threads, and adds up what they found.
#include "engine/conv.h"

#include <algorithm>
#include <cassert>
#include <functional>
#include <memory>
#include <vector>

#include "engine/scratch.h"

namespace spfde {
namespace {

int64_t all_rows(const Pass& pass) { return pass.src.groups * pass.phase[0].height; }

// The gradient of weights: each chunk sums up its own, and these are added in their order.
class WeightGradient {
 public:
  WeightGradient(const Structure& structure, int64_t rows, const Threads& threads)
      : structure_(structure), rows_(rows), threads_(threads), chunks_(threads.chunks(rows)),
        sums_(new float[chunks_ * structure.entries()]) {}

  // Calls compute(sums of entries, first row, last row) for each chunk.
  void each_chunk(const std::function<void(float*, int64_t, int64_t)>& compute) {
    threads_.each_chunk(rows_, [&](int64_t chunk, int64_t first, int64_t last) {
      float* sums = sums_.get() + chunk * structure_.entries();
      std::fill(sums, sums + structure_.entries(), 0.0f);
      compute(sums, first, last);
    });
  }

  void write(float* diff_weights) {
    const int64_t entries = structure_.entries();
    if (chunks_ == 0) return structure_.scatter(std::vector<float>(entries).data(), diff_weights);
    float* total = sums_.get();
    for (int64_t chunk = 1; chunk < chunks_; ++chunk) {
      const float* sums = total + chunk * entries;
      for (int64_t e = 0; e < entries; ++e) total[e] += sums[e];
    }
    structure_.scatter(total, diff_weights);
  }

 private:
  const Structure& structure_;
  const int64_t rows_;
  const Threads& threads_;
  const int64_t chunks_;
  const std::unique_ptr<float[]> sums_;
};

}  // namespace

void convolve(const Isa& isa, const Structure& structure, const Geometry& geometry,
              const float* weights, const Operand& src, float* dst, const Threads& threads) {
  std::vector<Phase> phases;
  Pass pass = structure.pass(geometry, &phases);
  const std::vector<float> values = structure.gather(weights);
  pass.values = values.data();
  const ConvKernels* kernels = isa.conv_kernels(structure.lanes());
  threads.each_chunk(all_rows(pass), [&](int64_t, int64_t first, int64_t last) {
    float* scratch = thread_scratch(packed_floats(pass) + sum_floats(pass, structure.lanes()));
    kernels->convolve(pass, src, dst, first, last, scratch);
  });
}

void backward_weights(const Isa& isa, const Structure& forward, const Geometry& geometry,
                      const Operand& src, const Operand& diff_dst, float* diff_weights,
                      const Threads& threads) {
  std::vector<Phase> phases;
  const Pass pass = forward.pass(geometry, &phases);
  const ConvKernels* kernels = isa.conv_kernels(forward.lanes());
  WeightGradient gradient(forward, all_rows(pass), threads);
  gradient.each_chunk([&](float* sums, int64_t first, int64_t last) {
    float* scratch = thread_scratch(packed_floats(pass) + dst_floats(pass, forward.lanes()));
    kernels->backward_weights(pass, src, diff_dst, first, last, sums, scratch);
  });
  gradient.write(diff_weights);
}

void backward(const Isa& isa, const Structure& forward, const Structure& backward_data,
              const Geometry& geometry, const float* weights, const Operand& src,
              const Operand& diff_dst, float* diff_src, float* diff_weights,
              const Threads& threads) {
  assert(forward.lanes() == backward_data.lanes());
  std::vector<Phase> phases, back_phases;
  const Pass pass = forward.pass(geometry, &phases);
  Pass back = backward_data.pass(geometry, &back_phases);
  if (geometry.stride != 1 || pass.dst.height > back.dst.height ||
      pass.dst.width > back.dst.width) {
    convolve(isa, backward_data, geometry, weights, diff_dst, diff_src, threads);
    backward_weights(isa, forward, geometry, src, diff_dst, diff_weights, threads);
    return;
  }
  const std::vector<float> values = backward_data.gather(weights);
  back.values = values.data();
  const ConvKernels* kernels = isa.conv_kernels(forward.lanes());
  WeightGradient gradient(forward, all_rows(back), threads);
  gradient.each_chunk([&](float* sums, int64_t first, int64_t last) {
    float* scratch = thread_scratch(packed_floats(pass) + packed_floats(back) +
                                    sum_floats(back, forward.lanes()));
    kernels->backward(pass, back, src, diff_dst, first, last, diff_src, sums, scratch);
  });
  gradient.write(diff_weights);
}

}  // namespace spfde
