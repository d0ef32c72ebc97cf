// The TensorFlow operators: a convolution whose kernel is mostly zero, and its gradients.
#include <optional>

#include "run.h"
#include "tensorflow_inputs.h"
#include "tensorflow_threads.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

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
class ConvolutionKernel : public OpKernel {
 public:
  explicit ConvolutionKernel(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("stride", &stride_));
    OP_REQUIRES_OK(context, context->GetAttr("pad", &pad_));
    isa_ = isa_of(context);
    if (isa_ == nullptr) return;
    OP_REQUIRES(context, pad_.size() == 4, InvalidArgument("`pad` must have 4 entries"));
    OP_REQUIRES(context, stride_ == 1 || stride_ == 2,
                InvalidArgument("`stride` must be 1 or 2. Received: ", stride_));
    if (context->HasAttr("normalized")) {
      OP_REQUIRES_OK(context, context->GetAttr("normalized", &normalized_));
      OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
    }
    if (context->HasAttr("derived")) {
      OP_REQUIRES_OK(context, context->GetAttr("derived", &derived_));
      OP_REQUIRES_OK(context, context->GetAttr("passing", &passing_));
    }
    OP_REQUIRES(context,
                (normalized_ == 0 || normalized_ == 4) && (derived_ == 0 || derived_ == 7),
                InvalidArgument("`normalized` must be 0 or 4, `derived` 0 or 7"));
  }

 protected:
  // Describes the convolution of images and a mask of these shapes, and checks that a kernel and a
  // gradient of the outputs, where there are any, fit; an error ends the operator.
  bool describe(OpKernelContext* context, const TensorShape& images, const Tensor& mask,
                const Tensor* kernel, const Tensor* gradient, Geometry* geometry) {
    Geometry& g = *geometry;
    bool fits = images.dims() == 4 && mask.dims() == 4 && mask.NumElements() > 0 &&
                images.dim_size(3) == mask.dim_size(2);
    if (fits) {
      g.batch = images.dim_size(0);
      g.height = int(images.dim_size(1));
      g.width = int(images.dim_size(2));
      g.kernel_height = int(mask.dim_size(0));
      g.kernel_width = int(mask.dim_size(1));
      g.inputs = int(mask.dim_size(2));
      g.outputs = int(mask.dim_size(3));
      g.stride = stride_;
      g.pad_top = pad_[0];
      g.pad_left = pad_[2];
      const int room_y = g.height + pad_[0] + pad_[1] - g.kernel_height;
      const int room_x = g.width + pad_[2] + pad_[3] - g.kernel_width;
      g.out_height = room_y / stride_ + 1;
      g.out_width = room_x / stride_ + 1;
      fits = room_y >= 0 && room_x >= 0 && (!kernel || kernel->shape() == mask.shape()) &&
             (!gradient || gradient->shape() == outputs(g));
    }
    if (!fits)
      context->CtxFailure(InvalidArgument(
          "images ", images.DebugString(), ", mask ", mask.shape().DebugString(),
          kernel ? ", kernel " + kernel->shape().DebugString() : "",
          gradient ? ", gradient " + gradient->shape().DebugString() : "", " do not fit"));
    return fits;
  }

  static TensorShape outputs(const Geometry& g) {
    return TensorShape({g.batch, g.out_height, g.out_width, g.outputs});
  }

  std::shared_ptr<const Structure> structure(StructureCache* cache, const Geometry& geometry,
                                             const Tensor& mask) {
    const int lanes = choose_lanes(geometry.samples(), isa_->lanes);
    return cache->get(geometry, lanes, mask.flat<bool>().data());
  }

  // Images, normalized on the way if inputs from `first` on say so; false after an error. `line`
  // must live as long as what is found.
  bool read_images(OpKernelContext* context, const Tensor& images, int first,
                   std::optional<Line>* line, Source* found) const {
    found->data = images.flat<float>().data();
    if (normalized_ == 0) return true;
    Normalization normalization;
    if (!read_normalization(context, images, first, epsilon_, true, &normalization)) return false;
    line->emplace(normalization);
    found->reading = Reading::kNormalized;
    found->scale = (*line)->scale.data();
    found->shift = (*line)->shift.data();
    return true;
  }

  // The gradient of the outputs, derived on the way if inputs from `first` on say so.
  bool read_gradient(OpKernelContext* context, const Tensor& gradient, int first,
                     Source* found) const {
    found->data = gradient.flat<float>().data();
    return derived_ == 0 || read_derived(context, gradient, first, passing_, found);
  }

  const Isa* isa_;
  int normalized_ = 0, derived_ = 0;
  StructureCache forward_{Kind::kForward}, backward_{Kind::kInputGradient};

 private:
  int stride_;
  std::vector<int> pad_;
  float epsilon_ = 0;
  bool passing_ = false;
};

class SparseConv2D : public ConvolutionKernel {
 public:
  using ConvolutionKernel::ConvolutionKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &images = context->input(0), &kernel = context->input(1), &mask = context->input(2);
    Geometry g;
    std::optional<Line> line;
    Source source(nullptr);
    if (!describe(context, images.shape(), mask, &kernel, nullptr, &g) ||
        !read_images(context, images, 3, &line, &source))
      return;
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, outputs(g), &result));
    convolve(*isa_, *structure(&forward_, g, mask), g, kernel.flat<float>().data(),
             source, result->flat<float>().data(), threads_of(context));
  }
};

class SparseConv2DInputGradient : public ConvolutionKernel {
 public:
  using ConvolutionKernel::ConvolutionKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &sizes = context->input(0), &kernel = context->input(1), &mask = context->input(2);
    const Tensor& gradient = context->input(3);
    TensorShape shape;
    OP_REQUIRES_OK(context, tensorflow::TensorShapeUtils::MakeShape(
                                sizes.flat<int32_t>().data(), sizes.NumElements(), &shape));
    Geometry g;
    Source source(nullptr);
    if (!describe(context, shape, mask, &kernel, &gradient, &g) ||
        !read_gradient(context, gradient, 4, &source))
      return;
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &result));
    convolve(*isa_, *structure(&backward_, g, mask), g, kernel.flat<float>().data(),
             source, result->flat<float>().data(), threads_of(context));
  }
};

class SparseConv2DKernelGradient : public ConvolutionKernel {
 public:
  using ConvolutionKernel::ConvolutionKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &images = context->input(0), &mask = context->input(1);
    const Tensor& gradient = context->input(2);
    Geometry g;
    std::optional<Line> line;
    Source source(nullptr), of_outputs(nullptr);
    if (!describe(context, images.shape(), mask, nullptr, &gradient, &g) ||
        !read_images(context, images, 3, &line, &source) ||
        !read_gradient(context, gradient, 3 + normalized_, &of_outputs))
      return;
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, mask.shape(), &result));
    correlate(*isa_, *structure(&forward_, g, mask), g, source, of_outputs,
              result->flat<float>().data(), threads_of(context));
  }
};

class SparseConv2DGradients : public ConvolutionKernel {
 public:
  using ConvolutionKernel::ConvolutionKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &images = context->input(0), &kernel = context->input(1), &mask = context->input(2);
    const Tensor& gradient = context->input(3);
    Geometry g;
    std::optional<Line> line;
    Source source(nullptr), of_outputs(nullptr);
    if (!describe(context, images.shape(), mask, &kernel, &gradient, &g) ||
        !read_images(context, images, 4, &line, &source) ||
        !read_gradient(context, gradient, 4 + normalized_, &of_outputs))
      return;
    Tensor *of_images, *of_kernel;
    OP_REQUIRES_OK(context, context->allocate_output(0, images.shape(), &of_images));
    OP_REQUIRES_OK(context, context->allocate_output(1, mask.shape(), &of_kernel));
    differentiate(*isa_, *structure(&forward_, g, mask), *structure(&backward_, g, mask), g,
                  kernel.flat<float>().data(), source, of_outputs,
                  of_images->flat<float>().data(), of_kernel->flat<float>().data(),
                  threads_of(context));
  }
};

}  // namespace

#define SPFDE_ATTRIBUTES      \
  Attr("stride: int")         \
      .Attr("pad: list(int)") \
      .Attr("isa: string = ''")

// Images that are normalized, and without what is negative, while they are read.
#define SPFDE_NORMALIZED                      \
  Input("normalization: normalized * float") \
      .Attr("normalized: int >= 0")           \
      .Attr("epsilon: float = 0")             \
      .Attr("of_batch: bool = false")

// A gradient that is derived from that of normalized outputs while it is read.
#define SPFDE_DERIVED                  \
  Input("derivation: derived * float") \
      .Attr("derived: int >= 0")       \
      .Attr("passing: bool = false")

REGISTER_OP("SpfdeSparseConv2D")
    .Input("images: float")
    .Input("kernel: float")
    .Input("mask: bool")
    .SPFDE_NORMALIZED.Output("outputs: float")
    .SPFDE_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->UnknownShapeOfRank(4));
      return absl::OkStatus();
    });

REGISTER_OP("SpfdeSparseConv2DInputGradient")
    .Input("sizes: int32")
    .Input("kernel: float")
    .Input("mask: bool")
    .Input("gradient: float")
    .SPFDE_DERIVED.Output("outputs: float")
    .SPFDE_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle shape;
      TF_RETURN_IF_ERROR(c->MakeShapeFromShapeTensor(0, &shape));
      c->set_output(0, shape);
      return absl::OkStatus();
    });

REGISTER_OP("SpfdeSparseConv2DKernelGradient")
    .Input("images: float")
    .Input("mask: bool")
    .Input("gradient: float")
    .SPFDE_NORMALIZED.SPFDE_DERIVED.Output("outputs: float")
    .SPFDE_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(1));
      return absl::OkStatus();
    });

REGISTER_OP("SpfdeSparseConv2DGradients")
    .Input("images: float")
    .Input("kernel: float")
    .Input("mask: bool")
    .Input("gradient: float")
    .SPFDE_NORMALIZED.SPFDE_DERIVED.Output("of_images: float")
    .Output("of_kernel: float")
    .SPFDE_ATTRIBUTES.SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(0));
      c->set_output(1, c->input(1));
      return absl::OkStatus();
    });

REGISTER_KERNEL_BUILDER(Name("SpfdeSparseConv2D").Device(DEVICE_CPU), SparseConv2D);
REGISTER_KERNEL_BUILDER(Name("SpfdeSparseConv2DInputGradient").Device(DEVICE_CPU).HostMemory("sizes"),
                        SparseConv2DInputGradient);
REGISTER_KERNEL_BUILDER(Name("SpfdeSparseConv2DGradients").Device(DEVICE_CPU),
                        SparseConv2DGradients);
REGISTER_KERNEL_BUILDER(Name("SpfdeSparseConv2DKernelGradient").Device(DEVICE_CPU),
                        SparseConv2DKernelGradient);

}  // namespace spfde
