// An activation, or the gradient of one, with the batch normalization that is fused into its loads.
//
// Owns nothing: it points to arrays of whoever calls. Compiled for every instruction set.
#ifndef SPFDE_ENGINE_OPERAND_H_
#define SPFDE_ENGINE_OPERAND_H_

namespace spfde {

// What is computed of each value while it is loaded.
enum class Prologue {
  kNone,               // data
  kBatchNormRelu,      // max(0, data * scale + shift)
  kBatchNormGrad,      // (data - diff_mean) * diff_scale + (src - mean) * deviation_scale
  kBatchNormReluGrad,  // likewise, with 0 for data where src * scale + shift is not positive
};

// Arrays `data` and `src` have the same shape, channels last; the others have one float for each
// channel. What the prologue does not need may be null.
struct Operand {
  const float* data;
  Prologue prologue = Prologue::kNone;
  const float *scale = nullptr, *shift = nullptr;
  const float *src = nullptr, *mean = nullptr;
  const float *diff_scale = nullptr, *deviation_scale = nullptr, *diff_mean = nullptr;

  Operand(const float* data) : data(data) {}  // NOLINT(google-explicit-constructor): it is one
};

}  // namespace spfde

#endif  // SPFDE_ENGINE_OPERAND_H_
