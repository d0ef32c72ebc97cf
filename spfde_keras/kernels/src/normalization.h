// Batch normalization and its gradients, on several threads.
#ifndef SPFDE_NORMALIZATION_H_
#define SPFDE_NORMALIZATION_H_

#include <cstdint>
#include <vector>

#include "isa.h"
#include "threads.h"

namespace spfde {

// `rows` rows of `channels` floats, and what normalizes them: a value for each channel.
struct Normalization {
  int64_t rows;
  int channels;
  const float *mean, *variance, *gamma, *beta;
  float epsilon;
  bool relu;
};

// Writes the mean and the (biased) variance of each channel.
void moments(const Isa& isa, const float* x, int64_t rows, int channels, float* mean,
             float* variance, const Threads& threads);

// y = (x - mean) / sqrt(variance + epsilon) * gamma + beta (+ residual); if `relu`, 0 where that is
// negative.
void normalize(const Isa& isa, const Normalization& normalization, const float* x,
               const float* residual, float* y, const Threads& threads);

// What the gradient of y becomes on its way to x; each has one float by channel. Of x, the gradient
// is (passing gradient - average) * slope + (x - mean) * curve.
struct NormalizationGradients {
  float *gamma, *beta;  // their gradients
  float *slope, *curve, *average;
  float *scale, *shift;  // of the line from x to y, by which one tells where gradients pass
};

// Adds the gradients up. That of x takes mean and variance for those of x itself if `of_batch`.
// With a residual, `y` is read and `of_residual` is written: the gradient that passes; it may be
// where `gradient` is. `more`, if there is any, is added to the gradient.
void add_up(const Isa& isa, const Normalization& normalization, bool of_batch, const float* x,
            const float* y, const float* gradient, const float* more, float* of_residual,
            const NormalizationGradients& found, const Threads& threads);

// Copies rows of what is read; `to` may be where the data are.
void copy(const Isa& isa, const Source& source, int64_t rows, int channels, float* to,
          const Threads& threads);

// Scale and shift of each channel, such that what is normalized is x * scale + shift.
struct Line {
  std::vector<float> scale, shift;
  explicit Line(const Normalization& normalization);
};

}  // namespace spfde

#endif  // SPFDE_NORMALIZATION_H_
