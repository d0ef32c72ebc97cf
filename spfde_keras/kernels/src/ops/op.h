// What all operators share: the instruction set they ask for, and errors instead of exceptions.
//
// No exception of the engine leaves Compute(): TensorFlow is compiled without them.
#ifndef SPFDE_OPS_OP_H_
#define SPFDE_OPS_OP_H_

#include <new>
#include <stdexcept>
#include <string>

#include "engine/isa.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace spfde {

// An operator whose compute() may throw: std::invalid_argument for wrong inputs, std::length_error
// for sizes that are too large, std::bad_alloc where memory is short.
class Op : public tensorflow::OpKernel {
 public:
  explicit Op(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    std::string name;
    OP_REQUIRES_OK(context, context->GetAttr("isa", &name));
    isa_ = name.empty() ? usable_isas().front() : find_isa(name);
    OP_REQUIRES(context, isa_ != nullptr,
                tensorflow::errors::InvalidArgument("this processor has no ", name));
  }

  void Compute(tensorflow::OpKernelContext* context) final {
    try {
      compute(context);
    } catch (const std::invalid_argument& error) {
      context->CtxFailure(tensorflow::errors::InvalidArgument(error.what()));
    } catch (const std::length_error& error) {
      context->CtxFailure(tensorflow::errors::ResourceExhausted(error.what()));
    } catch (const std::bad_alloc&) {
      context->CtxFailure(
          tensorflow::errors::ResourceExhausted("there is not enough memory for ", name()));
    }
  }

 protected:
  virtual void compute(tensorflow::OpKernelContext* context) = 0;

  const Isa& isa() const { return *isa_; }

 private:
  const Isa* isa_ = nullptr;
};

}  // namespace spfde

#endif  // SPFDE_OPS_OP_H_
