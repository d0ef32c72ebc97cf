// Batch normalization and its gradients, on several threads.
//
// Arrays belong to whoever calls: rows x channels floats, or one for each channel. Throws
// std::bad_alloc where memory is short.
#ifndef SPFDE_ENGINE_BATCH_NORM_H_
#define SPFDE_ENGINE_BATCH_NORM_H_

#include <cstdint>
#include <vector>

#include "engine/isa.h"
#include "engine/threads.h"

namespace spfde {

// `rows` rows of `channels` floats, and what normalizes them: a value for each channel.
struct BatchNorm {
  int64_t rows;
  int channels;
  const float *mean, *variance, *gamma, *beta;
  float epsilon;
  bool relu;
};

// By channel, such that src * scale + shift is what is normalized.
struct Affine {
  std::vector<float> scale, shift;
  explicit Affine(const BatchNorm& norm);
};

// Writes the mean and the (biased) variance of each channel.
void moments(const Isa& isa, const float* src, int64_t rows, int channels, float* mean,
             float* variance, const Threads& threads);

// dst = (src - mean) * rstd * gamma + beta (+ residual), where rstd = 1 / sqrt(variance + epsilon);
// if `relu`, 0 where that is negative.
void normalize(const Isa& isa, const BatchNorm& norm, const float* src, const float* residual,
               float* dst, const Threads& threads);

// Results, one float for each channel. What is left to do is
// diff_src = (diff_dst - diff_mean) * diff_scale + (src - mean) * deviation_scale,
// with 0 for diff_dst where src * scale + shift shows that the ReLU let nothing through.
struct BatchNormGradients {
  float *diff_gamma, *diff_beta;
  float *diff_scale, *deviation_scale, *diff_mean;
  float *scale, *shift;
};

// Sums up gradients over rows. With `of_batch`, mean and variance are those of src, and diff_src
// takes account of that. With a residual, dst is read and diff_residual written, which may be where
// diff_dst is; diff_dst_2, if there is any, is added to diff_dst.
void reduce_gradients(const Isa& isa, const BatchNorm& norm, bool of_batch, const float* src,
                      const float* dst, const float* diff_dst, const float* diff_dst_2,
                      float* diff_residual, const BatchNormGradients& found,
                      const Threads& threads);

// Writes what an operand is, its prologue applied; `dst` may be where its data are.
void materialize(const Isa& isa, const Operand& operand, int64_t rows, int channels, float* dst,
                 const Threads& threads);

}  // namespace spfde

#endif  // SPFDE_ENGINE_BATCH_NORM_H_
