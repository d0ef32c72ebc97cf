// The steps of batch normalization that each instruction set offers, on rows of channels.
//
// Compiled for every instruction set; the rules of conv_kernels.h hold. Rows are pixels of all
// images. Whoever calls hands over as many as stay in a core's cache, since some functions read
// them twice, and adds up results in double precision.
#ifndef SPFDE_ENGINE_BATCH_NORM_KERNELS_H_
#define SPFDE_ENGINE_BATCH_NORM_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#include "engine/operand.h"

namespace spfde {

// How it is known where a ReLU let values through: there is none, dst is above 0, or dst would be
// if it were computed again from src.
enum class ReluMask { kNone, kFromDst, kRecomputed };

// Arrays are of `rows` rows of `channels` floats, or of one float for each channel; what a function
// does not need may be null.
struct BatchNormArgs {
  int64_t rows;
  int channels;
  const float* src;
  const float* residual;
  const float* diff_dst;
  const float* diff_dst_2;  // to be added to diff_dst, with kFromDst
  const float *scale, *shift;
  const float* mean;
  float* dst;
  float* diff_residual;
  float *sums, *products;  // results by channel
};

struct BatchNormKernels {
  // sums = the channels' means; products = the sums of squared deviations from these.
  void (*moments)(const BatchNormArgs&);
  // dst = scale * src + shift, plus `residual` if there is one, and 0 for what is negative if
  // `relu`.
  void (*normalize)(const BatchNormArgs&, bool relu);
  // sums = of diff_dst where the ReLU let values through; products = of these with src - mean.
  // kFromDst reads dst, and diff_dst_2 if there is any, and writes diff_residual = what passes the
  // ReLU; kRecomputed needs scale and shift.
  void (*reduce_gradients)(const BatchNormArgs&, ReluMask);
  // dst = what an operand is, its prologue applied, in `rows` rows from `first` on.
  void (*materialize)(const Operand&, int64_t first, int64_t rows, int channels, float* dst);
};

}  // namespace spfde

#endif  // SPFDE_ENGINE_BATCH_NORM_KERNELS_H_
