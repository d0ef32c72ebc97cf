// Activations, and gradients of activations, that are computed while they are read.
#ifndef SPFDE_SOURCE_H_
#define SPFDE_SOURCE_H_

namespace spfde {

// What is read: data as they are, data normalized and without what is negative, or the gradient of
// what was normalized, either from all of `data` or where that was positive.
enum class Reading { kPlain, kNormalized, kGradient, kPassingGradient };

// Arrays `data` and `x` are of the same shape, channels last; the others have one float for each
// channel. What a reading does not need may be null.
struct Source {
  const float* data;
  Reading reading = Reading::kPlain;
  // kNormalized: max(0, data * scale + shift).
  const float *scale = nullptr, *shift = nullptr;
  // kGradient: (data - average) * slope + (x - mean) * curve. kPassingGradient: likewise, but data
  // are 0 unless x * scale + shift is positive.
  const float *x = nullptr, *mean = nullptr;
  const float *slope = nullptr, *curve = nullptr, *average = nullptr;

  Source(const float* data) : data(data) {}  // NOLINT: an array is a source
};

}  // namespace spfde

#endif  // SPFDE_SOURCE_H_
