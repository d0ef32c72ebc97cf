// The TensorFlow operators of activations. Nothing in them changes.
#include "engine/activation.h"
#include "ops/inputs.h"
#include "ops/op.h"
#include "ops/worker_threads.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace spfde {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;

absl::Status shape_of_x(InferenceContext* c) {
  c->set_output(0, c->input(0));
  return absl::OkStatus();
}

class Gelu : public Op {
 public:
  using Op::Op;

  void compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    Tensor* y;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &y));
    gelu(isa(), x.flat<float>().data(), x.NumElements(), y->flat<float>().data(),
         threads_of(context));
  }
};

class GeluGradient : public Op {
 public:
  using Op::Op;

  void compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &gradient = context->input(1);
    require_shape("gradient", gradient.shape(), x.shape());
    const float* from = gradient.flat<float>().data();
    Tensor* of_x;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({1}, 0, x.shape(), &of_x));
    gelu_gradient(isa(), x.flat<float>().data(), from, x.NumElements(), of_x->flat<float>().data(),
                  threads_of(context));
  }
};

}  // namespace

REGISTER_OP("SpfdeGelu")
    .Input("x: float")
    .Output("y: float")
    .Attr("isa: string = ''")
    .SetShapeFn(shape_of_x);

REGISTER_OP("SpfdeGeluGradient")
    .Input("x: float")
    .Input("gradient: float")
    .Output("of_x: float")
    .Attr("isa: string = ''")
    .SetShapeFn(shape_of_x);

REGISTER_KERNEL_BUILDER(Name("SpfdeGelu").Device(DEVICE_CPU), Gelu);
REGISTER_KERNEL_BUILDER(Name("SpfdeGeluGradient").Device(DEVICE_CPU), GeluGradient);

}  // namespace spfde
