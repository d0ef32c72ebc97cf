// Reads inputs of operators, after their shapes are checked.
//
// What is returned points into the inputs, and lives as long as the call of the operator.
#ifndef SPFDE_OPS_INPUTS_H_
#define SPFDE_OPS_INPUTS_H_

#include <array>
#include <stdexcept>
#include <string>

#include "engine/batch_norm.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace spfde {

// The number of channels; throws std::invalid_argument if there are none.
inline int channels_of(const tensorflow::Tensor& data) {
  const int64_t channels = data.dims() > 0 ? data.dim_size(data.dims() - 1) : 0;
  if (channels < 1 || channels > 1 << 24)
    throw std::invalid_argument("there must be 1 to 2^24 channels. Received: " +
                                data.shape().DebugString());
  return int(channels);
}

// Throws std::invalid_argument if `shape` is not `right`.
inline void require_shape(const std::string& name, const tensorflow::TensorShape& shape,
                          const tensorflow::TensorShape& right) {
  if (shape != right)
    throw std::invalid_argument("`" + name + "` must have shape " + right.DebugString() +
                                ". Received: " + shape.DebugString());
}

// The data of inputs [first, first + N), which must have one float for each of `channels`.
template <size_t N>
std::array<const float*, N> by_channel(tensorflow::OpKernelContext* context, int channels,
                                       int first, const std::array<const char*, N>& names) {
  std::array<const float*, N> found{};
  for (size_t i = 0; i < N; ++i) {
    const tensorflow::Tensor& input = context->input(first + int(i));
    require_shape(names[i], input.shape(), tensorflow::TensorShape({channels}));
    found[i] = input.flat<float>().data();
  }
  return found;
}

// The normalization of `data` by the inputs mean, variance, gamma and beta from `first` on.
inline BatchNorm read_batch_norm(tensorflow::OpKernelContext* context,
                                 const tensorflow::Tensor& data, int first, float epsilon,
                                 bool relu) {
  const int channels = channels_of(data);
  const auto of = by_channel<4>(context, channels, first, {"mean", "variance", "gamma", "beta"});
  return {data.NumElements() / channels, channels, of[0], of[1], of[2], of[3], epsilon, relu};
}

// The gradient of what was normalized, from `data`, the gradient of the result, and the inputs x,
// mean, diff_scale, deviation_scale, diff_mean, scale and shift from `first` on; see
// BatchNormGradients.
inline Operand read_batch_norm_gradient(tensorflow::OpKernelContext* context,
                                        const tensorflow::Tensor& data, int first, bool passing) {
  const tensorflow::Tensor& x = context->input(first);
  require_shape("x", x.shape(), data.shape());
  const auto of =
      by_channel<6>(context, channels_of(data), first + 1,
                    {"mean", "diff_scale", "deviation_scale", "diff_mean", "scale", "shift"});
  Operand found(data.flat<float>().data());
  found.prologue = passing ? Prologue::kBatchNormReluGrad : Prologue::kBatchNormGrad;
  found.src = x.flat<float>().data();
  found.mean = of[0];
  found.diff_scale = of[1];
  found.deviation_scale = of[2];
  found.diff_mean = of[3];
  found.scale = of[4];
  found.shift = of[5];
  return found;
}

}  // namespace spfde

#endif  // SPFDE_OPS_INPUTS_H_
