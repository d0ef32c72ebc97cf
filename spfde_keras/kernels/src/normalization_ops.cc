// The TensorFlow operators of batch normalization with what follows it: an addition, a ReLU.
#include "normalization.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow_inputs.h"
#include "tensorflow_threads.h"

namespace spfde {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;

// What the operators share.
class NormalizationKernel : public OpKernel {
 public:
  explicit NormalizationKernel(OpKernelConstruction* context) : OpKernel(context) {
    isa_ = isa_of(context);
    if (isa_ == nullptr) return;
    if (context->HasAttr("epsilon")) {
      OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
      OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
      OP_REQUIRES_OK(context, context->GetAttr("of_batch", &of_batch_));
      OP_REQUIRES_OK(context, context->GetAttr("residuals", &residuals_));
      int added = 0;
      if (context->HasAttr("added")) OP_REQUIRES_OK(context, context->GetAttr("added", &added));
      OP_REQUIRES(context, residuals_ == 0 || (residuals_ == 1 && relu_),
                  InvalidArgument("`residuals` must be 0, or 1 with `relu`"));
      OP_REQUIRES(context, added <= residuals_,
                  InvalidArgument("`added` must be 0, or 1 with a residual"));
    }
  }

 protected:
  // Describes a normalization whose inputs mean, variance, gamma and beta start at `first`, and
  // checks that all fit; an error ends the operator.
  bool describe(OpKernelContext* context, const Tensor& x, int first, Normalization* found) {
    if (!read_normalization(context, x, first, epsilon_, relu_, found)) return false;
    bool fits = true;
    for (int i = 0; i < context->num_inputs(); ++i)
      fits = fits && ((i >= first && i < first + 4) || context->input(i).shape() == x.shape());
    if (!fits)
      context->CtxFailure(InvalidArgument("inputs do not fit x, ", x.shape().DebugString()));
    return fits;
  }

  const Isa* isa_;
  float epsilon_ = 0;
  int residuals_ = 0;
  bool relu_ = false, of_batch_ = false;
};

class Moments : public NormalizationKernel {
 public:
  using NormalizationKernel::NormalizationKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    OP_REQUIRES(context, x.dims() > 0 && x.dim_size(x.dims() - 1) > 0,
                InvalidArgument("x must have channels: ", x.shape().DebugString()));
    const int64_t channels = x.dim_size(x.dims() - 1);
    Tensor *mean, *variance;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({channels}), &mean));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({channels}), &variance));
    moments(*isa_, x.flat<float>().data(), x.NumElements() / channels, int(channels),
            mean->flat<float>().data(), variance->flat<float>().data(), threads_of(context));
  }
};

class Normalize : public NormalizationKernel {
 public:
  using NormalizationKernel::NormalizationKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor* residual = context->num_inputs() > 5 ? &context->input(5) : nullptr;
    Normalization normalization;
    if (!describe(context, x, 1, &normalization)) return;
    const float* from = x.flat<float>().data();
    const float* added = residual ? residual->flat<float>().data() : nullptr;
    Tensor* y;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 0, x.shape(), &y));
    normalize(*isa_, normalization, from, added, y->flat<float>().data(), threads_of(context));
  }
};

class NormalizeSums : public NormalizationKernel {
 public:
  using NormalizationKernel::NormalizationKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &gradient = context->input(0), &x = context->input(1);
    const float* y = residuals_ ? context->input(6).flat<float>().data() : nullptr;
    const int added = 6 + residuals_;
    const float* more =
        context->num_inputs() > added ? context->input(added).flat<float>().data() : nullptr;
    Normalization normalization;
    if (!describe(context, x, 2, &normalization)) return;
    const float* of_y = gradient.flat<float>().data();
    float* by_channel[7];
    for (int i = 0; i < 7; ++i) {
      Tensor* output;
      OP_REQUIRES_OK(context, context->allocate_output(
                                  i, TensorShape({normalization.channels}), &output));
      by_channel[i] = output->flat<float>().data();
    }
    Tensor* of_residual = nullptr;
    if (y)
      OP_REQUIRES_OK(context,
                     context->forward_input_or_allocate_output({0}, 7, x.shape(), &of_residual));
    const NormalizationGradients found{by_channel[0], by_channel[1], by_channel[2], by_channel[3],
                                       by_channel[4], by_channel[5], by_channel[6]};
    add_up(*isa_, normalization, of_batch_, x.flat<float>().data(), y, of_y, more,
           of_residual ? of_residual->flat<float>().data() : nullptr, found, threads_of(context));
  }
};

class Derive : public NormalizationKernel {
 public:
  explicit Derive(OpKernelConstruction* context) : NormalizationKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("passing", &passing_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& gradient = context->input(0);
    Source source(nullptr);
    if (!read_derived(context, gradient, 1, passing_, &source)) return;
    Tensor* of_x;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({0}, 0, gradient.shape(), &of_x));
    const int64_t channels = gradient.dim_size(gradient.dims() - 1);
    copy(*isa_, source, gradient.NumElements() / channels, int(channels),
         of_x->flat<float>().data(), threads_of(context));
  }

 private:
  bool passing_;
};

}  // namespace

#define SPFDE_NORMALIZATION           \
  Attr("epsilon: float")              \
      .Attr("relu: bool")             \
      .Attr("of_batch: bool")         \
      .Attr("foldable: bool = false") \
      .Attr("residuals: int >= 0")    \
      .Attr("isa: string = ''")

REGISTER_OP("SpfdeMoments")
    .Input("x: float")
    .Output("mean: float")
    .Output("variance: float")
    .Attr("isa: string = ''")
    .SetShapeFn([](InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle x;
      TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(0), 1, &x));
      c->set_output(0, c->Vector(c->Dim(x, -1)));
      c->set_output(1, c->Vector(c->Dim(x, -1)));
      return absl::OkStatus();
    });

REGISTER_OP("SpfdeNormalize")
    .Input("x: float")
    .Input("mean: float")
    .Input("variance: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Input("residual: residuals * float")
    .Output("y: float")
    .SPFDE_NORMALIZATION.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      return absl::OkStatus();
    });

REGISTER_OP("SpfdeNormalizeSums")
    .Input("gradient: float")
    .Input("x: float")
    .Input("mean: float")
    .Input("variance: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Input("y: residuals * float")
    .Input("more: added * float")
    .Attr("added: int >= 0")
    .Output("of_gamma: float")
    .Output("of_beta: float")
    .Output("slope: float")
    .Output("curve: float")
    .Output("average: float")
    .Output("scale: float")
    .Output("shift: float")
    .Output("of_residual: residuals * float")
    .SPFDE_NORMALIZATION.SetShapeFn([](InferenceContext* c) {
      for (int i = 0; i < 7; ++i) c->set_output(i, c->input(2));
      if (c->num_outputs() > 7) c->set_output(7, c->input(1));
      return absl::OkStatus();
    });

REGISTER_OP("SpfdeDerive")
    .Input("gradient: float")
    .Input("x: float")
    .Input("mean: float")
    .Input("slope: float")
    .Input("curve: float")
    .Input("average: float")
    .Input("scale: float")
    .Input("shift: float")
    .Output("of_x: float")
    .Attr("passing: bool")
    .Attr("isa: string = ''")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      return absl::OkStatus();
    });

REGISTER_KERNEL_BUILDER(Name("SpfdeMoments").Device(DEVICE_CPU), Moments);
REGISTER_KERNEL_BUILDER(Name("SpfdeNormalize").Device(DEVICE_CPU), Normalize);
REGISTER_KERNEL_BUILDER(Name("SpfdeNormalizeSums").Device(DEVICE_CPU), NormalizeSums);
REGISTER_KERNEL_BUILDER(Name("SpfdeDerive").Device(DEVICE_CPU), Derive);

}  // namespace spfde
