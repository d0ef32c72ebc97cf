// Inputs of TensorFlow's operators that are computed while they are read.
#ifndef SPFDE_TENSORFLOW_INPUTS_H_
#define SPFDE_TENSORFLOW_INPUTS_H_

#include "normalization.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace spfde {

// The instruction set that an operator's attribute asks for, or the best one; null if this
// processor does not have it, and then an error ends the operator's construction.
inline const Isa* isa_of(tensorflow::OpKernelConstruction* context) {
  std::string name;
  const absl::Status status = context->GetAttr("isa", &name);
  const Isa* isa = name.empty() ? usable_isas().front() : find_isa(name);
  if (!status.ok())
    context->CtxFailure(status);
  else if (isa == nullptr)
    context->CtxFailure(tensorflow::errors::InvalidArgument("this processor has no ", name));
  return isa;
}

// Floats of inputs [first, first + count) by channel of `like`; false if one has another shape,
// and then an error ends the operator.
inline bool by_channel(tensorflow::OpKernelContext* context, const tensorflow::Tensor& like,
                       int first, int count, const float** found) {
  const int64_t channels = like.dims() > 0 ? like.dim_size(like.dims() - 1) : 0;
  for (int i = 0; i < count; ++i) {
    const tensorflow::Tensor& input = context->input(first + i);
    if (channels == 0 || input.shape() != tensorflow::TensorShape({channels})) {
      context->CtxFailure(tensorflow::errors::InvalidArgument(
          "input ", first + i, ", ", input.shape().DebugString(), ", does not fit channels of ",
          like.shape().DebugString()));
      return false;
    }
    found[i] = input.flat<float>().data();
  }
  return true;
}

// `data`, normalized by the inputs mean, variance, gamma and beta from `first` on; false if they
// do not fit.
inline bool read_normalization(tensorflow::OpKernelContext* context, const tensorflow::Tensor& data,
                               int first, float epsilon, bool relu, Normalization* found) {
  const float* of[4];
  if (!by_channel(context, data, first, 4, of)) return false;
  const int64_t channels = data.dim_size(data.dims() - 1);
  *found = Normalization{data.NumElements() / channels, int(channels), of[0], of[1],
                         of[2],                         of[3],         epsilon, relu};
  return true;
}

// The gradient `data`, derived by the inputs x, mean, slope, curve, average, scale and shift from
// `first` on.
inline bool read_derived(tensorflow::OpKernelContext* context, const tensorflow::Tensor& data,
                         int first, bool passing, Source* found) {
  const float* of[6];
  const tensorflow::Tensor& x = context->input(first);
  if (!by_channel(context, data, first + 1, 6, of)) return false;
  if (x.shape() != data.shape()) {
    context->CtxFailure(tensorflow::errors::InvalidArgument(
        "x, ", x.shape().DebugString(), ", does not fit ", data.shape().DebugString()));
    return false;
  }
  found->data = data.flat<float>().data();
  found->reading = passing ? Reading::kPassingGradient : Reading::kGradient;
  found->x = x.flat<float>().data();
  found->mean = of[0];
  found->slope = of[1];
  found->curve = of[2];
  found->average = of[3];
  found->scale = of[4];
  found->shift = of[5];
  return true;
}

}  // namespace spfde

#endif  // SPFDE_TENSORFLOW_INPUTS_H_
