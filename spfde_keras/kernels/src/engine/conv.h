// A whole convolution, or its gradients, on several threads.
//
// Arrays belong to whoever calls, and have the shapes of the geometry; a structure must fit it.
// Throws std::bad_alloc where memory is short.
#ifndef SPFDE_ENGINE_CONV_H_
#define SPFDE_ENGINE_CONV_H_

#include "engine/isa.h"
#include "engine/structure.h"
#include "engine/threads.h"

namespace spfde {

// With a structure of kForward, dst is the convolution of src; with one of kBackwardData, src is
// the gradient of the outputs, and dst that of the inputs.
void convolve(const Isa& isa, const Structure& structure, const Geometry& geometry,
              const float* weights, const Operand& src, float* dst, const Threads& threads);

// The gradient of the weights, 0 where the mask is. The same to the bit for any two calls with the
// same number of threads.
void backward_weights(const Isa& isa, const Structure& forward, const Geometry& geometry,
                      const Operand& src, const Operand& diff_dst, float* diff_weights,
                      const Threads& threads);

// Both gradients; `backward_data` is the structure of kBackwardData.
void backward(const Isa& isa, const Structure& forward, const Structure& backward_data,
              const Geometry& geometry, const float* weights, const Operand& src,
              const Operand& diff_dst, float* diff_src, float* diff_weights,
              const Threads& threads);

}  // namespace spfde

#endif  // SPFDE_ENGINE_CONV_H_
