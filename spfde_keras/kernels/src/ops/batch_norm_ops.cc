// The TensorFlow operators of batch normalization with what follows it: an addition, a ReLU.
//
// Names of inputs are TensorFlow's (x, y). An operator may run in several threads at once: nothing
// in it changes.
#include "engine/batch_norm.h"
#include "ops/inputs.h"
#include "ops/op.h"
#include "ops/worker_threads.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace spfde {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;

// Operators that know how a normalization is to be computed.
class BatchNormOp : public Op {
 public:
  explicit BatchNormOp(OpKernelConstruction* context) : Op(context) {
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

 protected:
  // The data of an input that must have the shape of x; null if there is no such input.
  static const float* beside(OpKernelContext* context, const Tensor& x, int index,
                             const char* name) {
    if (index >= context->num_inputs()) return nullptr;
    require_shape(name, context->input(index).shape(), x.shape());
    return context->input(index).flat<float>().data();
  }

  float epsilon_ = 0;
  int residuals_ = 0;
  bool relu_ = false, of_batch_ = false;
};

class Moments : public Op {
 public:
  using Op::Op;

  void compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const int channels = channels_of(x);
    Tensor *mean, *variance;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({channels}), &mean));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({channels}), &variance));
    moments(isa(), x.flat<float>().data(), x.NumElements() / channels, channels,
            mean->flat<float>().data(), variance->flat<float>().data(), threads_of(context));
  }
};

class Normalize : public BatchNormOp {
 public:
  using BatchNormOp::BatchNormOp;

  void compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const BatchNorm n = read_batch_norm(context, x, 1, epsilon_, relu_);
    const float* residual = beside(context, x, 5, "residual");
    const float* from = x.flat<float>().data();
    Tensor* y;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 0, x.shape(), &y));
    normalize(isa(), n, from, residual, y->flat<float>().data(), threads_of(context));
  }
};

class NormalizeSums : public BatchNormOp {
 public:
  using BatchNormOp::BatchNormOp;

  void compute(OpKernelContext* context) override {
    const Tensor& x = context->input(1);
    const BatchNorm n = read_batch_norm(context, x, 2, epsilon_, relu_);
    const float* of_y = beside(context, x, 0, "gradient");
    // Without a residual there is neither.
    const float* y = beside(context, x, 6, "y");
    const float* more = beside(context, x, 7, "more");
    float* by_channel[7];
    for (int i = 0; i < 7; ++i) {
      Tensor* output;
      OP_REQUIRES_OK(context, context->allocate_output(i, TensorShape({n.channels}), &output));
      by_channel[i] = output->flat<float>().data();
    }
    Tensor* of_residual = nullptr;
    if (y)
      OP_REQUIRES_OK(context,
                     context->forward_input_or_allocate_output({0}, 7, x.shape(), &of_residual));
    const BatchNormGradients found{by_channel[0], by_channel[1], by_channel[2], by_channel[3],
                                   by_channel[4], by_channel[5], by_channel[6]};
    reduce_gradients(isa(), n, of_batch_, x.flat<float>().data(), y, of_y, more,
                     of_residual ? of_residual->flat<float>().data() : nullptr, found,
                     threads_of(context));
  }
};

class Derive : public Op {
 public:
  explicit Derive(OpKernelConstruction* context) : Op(context) {
    OP_REQUIRES_OK(context, context->GetAttr("passing", &passing_));
  }

  void compute(OpKernelContext* context) override {
    const Tensor& gradient = context->input(0);
    const int channels = channels_of(gradient);
    const Operand operand = read_batch_norm_gradient(context, gradient, 1, passing_);
    Tensor* of_x;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({0}, 0, gradient.shape(), &of_x));
    materialize(isa(), operand, gradient.NumElements() / channels, channels,
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
    .Output("diff_scale: float")
    .Output("deviation_scale: float")
    .Output("diff_mean: float")
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
    .Input("diff_scale: float")
    .Input("deviation_scale: float")
    .Input("diff_mean: float")
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
