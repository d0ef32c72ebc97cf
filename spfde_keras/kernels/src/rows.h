// Batch normalization of rows of channels: what every instruction set's file compiles.
//
// Rows are pixels of all images. Whoever calls hands over as many rows as stay in a core's cache,
// since some of these functions pass over them twice, and adds up results in double precision.
#ifndef SPFDE_ROWS_H_
#define SPFDE_ROWS_H_

#include <stddef.h>
#include <stdint.h>

#include "source.h"

namespace spfde {

// Through which outputs gradients pass: all, those above 0, those above 0 computed anew from `x`.
enum class Passing { kAll, kPositive, kRecomputed };

// What is computed of rows. Arrays are of `count` rows of `channels` floats, or of one float for
// each channel; what an operation does not need may be null.
struct Rows {
  int64_t count;
  int channels;
  const float* x;
  const float* residual;
  const float* gradient;  // of y
  const float* more;      // gradient of y, too, to be added; with a residual only
  const float *scale, *shift;
  const float* mean;
  float* y;
  float* of_residual;
  float *sums, *products;  // results by channel
};

// What one instruction set offers.
struct Normalizer {
  // sums = the channels' means; products = the sums of squared deviations from these.
  void (*moments)(const Rows&);
  // y = scale * x + shift, plus `residual` if there is one, and 0 for what is negative if `relu`.
  void (*normalize)(const Rows&, bool relu);
  // sums = of the gradients that pass, products = of these with x - mean. kPositive reads y, and
  // `more` if there is any, and writes of_residual = the gradients that pass; kRecomputed needs
  // scale and shift.
  void (*add_up)(const Rows&, Passing);
  // to = what is read of `count` rows from `first` on.
  void (*copy)(const Source&, int64_t first, int64_t count, int channels, float* to);
};

}  // namespace spfde

#endif  // SPFDE_ROWS_H_
