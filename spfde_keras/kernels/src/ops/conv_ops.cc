// The TensorFlow operators: a convolution whose kernel is mostly zero, and its gradients.
//
// Names of inputs are Keras' (images, kernel), since errors speak to who calls from Python. An
// operator may run in several threads at once: only the caches of structures change.
#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/conv.h"
#include "engine/structure_cache.h"
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

// What the operators of convolutions share.
class ConvOp : public Op {
 public:
  explicit ConvOp(OpKernelConstruction* context) : Op(context) {
    std::vector<int> pad;
    OP_REQUIRES_OK(context, context->GetAttr("stride", &stride_));
    OP_REQUIRES_OK(context, context->GetAttr("pad", &pad));
    OP_REQUIRES(context, pad.size() == pad_.size(),
                InvalidArgument("`pad` must have 4 entries. Received: ", pad.size()));
    std::copy(pad.begin(), pad.end(), pad_.begin());
    if (context->HasAttr("normalized")) {
      OP_REQUIRES_OK(context, context->GetAttr("normalized", &normalized_));
      OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
    }
    if (context->HasAttr("derived")) {
      OP_REQUIRES_OK(context, context->GetAttr("derived", &derived_));
      OP_REQUIRES_OK(context, context->GetAttr("passing", &passing_));
    }
    OP_REQUIRES(context, (normalized_ == 0 || normalized_ == 4) && (derived_ == 0 || derived_ == 7),
                InvalidArgument("`normalized` must be 0 or 4, `derived` 0 or 7. Received: ",
                                normalized_, " and ", derived_));
  }

 protected:
  // The convolution of images and a mask of these shapes; throws if a kernel or a gradient of the
  // outputs, where there are any, do not fit.
  Geometry geometry(const TensorShape& images, const Tensor& mask, const Tensor* kernel,
                    const Tensor* gradient) const {
    const Geometry g = make_geometry(four_sizes("images", images), four_sizes("mask", mask.shape()),
                                     stride_, pad_);
    if (kernel) require_shape("kernel", kernel->shape(), mask.shape());
    if (gradient) require_shape("gradient", gradient->shape(), outputs(g));
    return g;
  }

  static TensorShape outputs(const Geometry& g) {
    TensorShape shape;
    const absl::Status status =
        TensorShape::BuildTensorShape({g.batch, g.dst_height, g.dst_width, g.dst_channels}, &shape);
    if (!status.ok()) throw std::length_error(std::string(status.message()));
    return shape;
  }

  std::shared_ptr<const Structure> structure(StructureCache* cache, const Geometry& geometry,
                                             const Tensor& mask) {
    const int lanes = choose_lanes(geometry.samples(), isa().lanes);
    return cache->get(geometry, lanes, mask.flat<bool>().data());
  }

  // Images, normalized on the way if inputs from `first` on say so. `line` must live as long as
  // what is found.
  Operand read_images(OpKernelContext* context, const Tensor& images, int first,
                      std::optional<Affine>* affine) const {
    Operand found(images.flat<float>().data());
    if (normalized_ == 0) return found;
    affine->emplace(read_batch_norm(context, images, first, epsilon_, true));
    found.prologue = Prologue::kBatchNormRelu;
    found.scale = (*affine)->scale.data();
    found.shift = (*affine)->shift.data();
    return found;
  }

  // The gradient of the outputs, derived on the way if inputs from `first` on say so.
  Operand read_gradient(OpKernelContext* context, const Tensor& gradient, int first) const {
    if (derived_ == 0) return gradient.flat<float>().data();
    return read_batch_norm_gradient(context, gradient, first, passing_);
  }

  int normalized_ = 0, derived_ = 0;
  StructureCache forward_{Direction::kForward}, backward_data_{Direction::kBackwardData};

 private:
  static std::array<int64_t, 4> four_sizes(const std::string& name, const TensorShape& shape) {
    if (shape.dims() != 4)
      throw std::invalid_argument("`" + name +
                                  "` must have 4 dimensions. Received: " + shape.DebugString());
    return {shape.dim_size(0), shape.dim_size(1), shape.dim_size(2), shape.dim_size(3)};
  }

  int stride_;
  std::array<int64_t, 4> pad_;
  float epsilon_ = 0;
  bool passing_ = false;
};

class SparseConv2D : public ConvOp {
 public:
  using ConvOp::ConvOp;

  void compute(OpKernelContext* context) override {
    const Tensor &images = context->input(0), &kernel = context->input(1),
                 &mask = context->input(2);
    const Geometry g = geometry(images.shape(), mask, &kernel, nullptr);
    std::optional<Affine> affine;
    const Operand src = read_images(context, images, 3, &affine);
    const auto forward = structure(&forward_, g, mask);
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, outputs(g), &result));
    convolve(isa(), *forward, g, kernel.flat<float>().data(), src, result->flat<float>().data(),
             threads_of(context));
  }
};

class SparseConv2DInputGradient : public ConvOp {
 public:
  using ConvOp::ConvOp;

  void compute(OpKernelContext* context) override {
    const Tensor &sizes = context->input(0), &kernel = context->input(1), &mask = context->input(2);
    const Tensor& gradient = context->input(3);
    TensorShape shape;
    OP_REQUIRES_OK(context, tensorflow::TensorShapeUtils::MakeShape(sizes.flat<int32_t>().data(),
                                                                    sizes.NumElements(), &shape));
    const Geometry g = geometry(shape, mask, &kernel, &gradient);
    const Operand src = read_gradient(context, gradient, 4);
    const auto backward_data = structure(&backward_data_, g, mask);
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &result));
    convolve(isa(), *backward_data, g, kernel.flat<float>().data(), src,
             result->flat<float>().data(), threads_of(context));
  }
};

class SparseConv2DKernelGradient : public ConvOp {
 public:
  using ConvOp::ConvOp;

  void compute(OpKernelContext* context) override {
    const Tensor &images = context->input(0), &mask = context->input(1);
    const Tensor& gradient = context->input(2);
    const Geometry g = geometry(images.shape(), mask, nullptr, &gradient);
    std::optional<Affine> affine;
    const Operand src = read_images(context, images, 3, &affine);
    const Operand diff_dst = read_gradient(context, gradient, 3 + normalized_);
    const auto forward = structure(&forward_, g, mask);
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, mask.shape(), &result));
    backward_weights(isa(), *forward, g, src, diff_dst, result->flat<float>().data(),
                     threads_of(context));
  }
};

class SparseConv2DGradients : public ConvOp {
 public:
  using ConvOp::ConvOp;

  void compute(OpKernelContext* context) override {
    const Tensor &images = context->input(0), &kernel = context->input(1),
                 &mask = context->input(2);
    const Tensor& gradient = context->input(3);
    const Geometry g = geometry(images.shape(), mask, &kernel, &gradient);
    std::optional<Affine> affine;
    const Operand src = read_images(context, images, 4, &affine);
    const Operand diff_dst = read_gradient(context, gradient, 4 + normalized_);
    const auto forward = structure(&forward_, g, mask);
    const auto backward_data = structure(&backward_data_, g, mask);
    Tensor *of_images, *of_kernel;
    OP_REQUIRES_OK(context, context->allocate_output(0, images.shape(), &of_images));
    OP_REQUIRES_OK(context, context->allocate_output(1, mask.shape(), &of_kernel));
    backward(isa(), *forward, *backward_data, g, kernel.flat<float>().data(), src, diff_dst,
             of_images->flat<float>().data(), of_kernel->flat<float>().data(), threads_of(context));
  }
};

}  // namespace

#define SPFDE_ATTRIBUTES Attr("stride: int").Attr("pad: list(int)").Attr("isa: string = ''")

// Images that are normalized, and without what is negative, while they are read.
#define SPFDE_NORMALIZED                     \
  Input("normalization: normalized * float") \
      .Attr("normalized: int >= 0")          \
      .Attr("epsilon: float = 0")            \
      .Attr("of_batch: bool = false")

// A gradient that is derived from that of normalized outputs while it is read.
#define SPFDE_DERIVED \
  Input("derivation: derived * float").Attr("derived: int >= 0").Attr("passing: bool = false")

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
REGISTER_KERNEL_BUILDER(
    Name("SpfdeSparseConv2DInputGradient").Device(DEVICE_CPU).HostMemory("sizes"),
    SparseConv2DInputGradient);
REGISTER_KERNEL_BUILDER(Name("SpfdeSparseConv2DGradients").Device(DEVICE_CPU),
                        SparseConv2DGradients);
REGISTER_KERNEL_BUILDER(Name("SpfdeSparseConv2DKernelGradient").Device(DEVICE_CPU),
                        SparseConv2DKernelGradient);

}  // namespace spfde
