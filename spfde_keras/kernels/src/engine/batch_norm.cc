// Divides rows among threads, by pieces that fit a cache, and adds up what was found in double
// precision.
#include "engine/batch_norm.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <vector>

namespace spfde {
namespace {

constexpr int64_t kPieceFloats = 8192;  // as many stay in the first cache while they are read twice

// Calls compute(first row, rows) for each piece of rows [first, last).
template <typename Compute>
void each_piece(int64_t first, int64_t last, int channels, Compute compute) {
  const int64_t most = std::max<int64_t>(1, kPieceFloats / channels);
  for (int64_t row = first; row < last; row += most) compute(row, std::min(most, last - row));
}

BatchNormArgs args_of(const BatchNorm& norm, const Affine& affine) {
  BatchNormArgs args{};
  args.channels = norm.channels;
  args.scale = affine.scale.data();
  args.shift = affine.shift.data();
  args.mean = norm.mean;
  return args;
}

// `rows` rows of all from `first` on.
BatchNormArgs piece_of(const BatchNormArgs& all, int64_t first, int64_t rows) {
  BatchNormArgs args = all;
  const ptrdiff_t skipped = first * all.channels;
  args.rows = rows;
  for (const float** p : {&args.src, &args.residual, &args.diff_dst, &args.diff_dst_2})
    if (*p) *p += skipped;
  for (float** p : {&args.dst, &args.diff_residual})
    if (*p) *p += skipped;
  return args;
}

}  // namespace

Affine::Affine(const BatchNorm& norm) : scale(norm.channels), shift(norm.channels) {
  for (int c = 0; c < norm.channels; ++c) {
    scale[c] = norm.gamma[c] / std::sqrt(norm.variance[c] + norm.epsilon);
    shift[c] = norm.beta[c] - norm.mean[c] * scale[c];
  }
}

void moments(const Isa& isa, const float* src, int64_t rows, int channels, float* mean,
             float* variance, const Threads& threads) {
  // Of each chunk: how many rows, then for each channel mean and sum of squared deviations.
  const int64_t chunks = threads.chunks(rows);
  std::vector<double> found(chunks * 2 * channels);
  std::vector<int64_t> counts(chunks);
  auto merge = [channels](const auto* means, const auto* deviations, int64_t count, int64_t* total,
                          double* all_means, double* all_deviations) {
    const double share = double(count) / double(*total + count), both = share * double(*total);
    for (int c = 0; c < channels; ++c) {
      const double difference = means[c] - all_means[c];
      all_means[c] += difference * share;
      all_deviations[c] += deviations[c] + difference * difference * both;
    }
    *total += count;
  };
  BatchNormArgs all{};
  all.channels = channels;
  all.src = src;
  threads.each_chunk(rows, [&](int64_t chunk, int64_t first, int64_t last) {
    std::vector<float> piece(2 * size_t(channels));
    double* means = found.data() + chunk * 2 * channels;
    each_piece(first, last, channels, [&](int64_t row, int64_t count) {
      BatchNormArgs some = piece_of(all, row, count);
      some.sums = piece.data();
      some.products = piece.data() + channels;
      isa.batch_norm_kernels()->moments(some);
      merge(some.sums, some.products, count, &counts[chunk], means, means + channels);
    });
  });
  std::vector<double> total(2 * size_t(channels));
  int64_t count = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const double* means = found.data() + chunk * 2 * channels;
    merge(means, means + channels, counts[chunk], &count, total.data(), total.data() + channels);
  }
  for (int c = 0; c < channels; ++c) {
    mean[c] = float(total[c]);
    variance[c] = float(total[channels + c] / double(rows));
  }
}

void normalize(const Isa& isa, const BatchNorm& norm, const float* src, const float* residual,
               float* dst, const Threads& threads) {
  const Affine affine(norm);
  BatchNormArgs all = args_of(norm, affine);
  all.src = src;
  all.residual = residual;
  all.dst = dst;
  threads.each_chunk(norm.rows, [&](int64_t, int64_t first, int64_t last) {
    each_piece(first, last, all.channels, [&](int64_t row, int64_t count) {
      isa.batch_norm_kernels()->normalize(piece_of(all, row, count), norm.relu);
    });
  });
}

void reduce_gradients(const Isa& isa, const BatchNorm& norm, bool of_batch, const float* src,
                      const float* dst, const float* diff_dst, const float* diff_dst_2,
                      float* diff_residual, const BatchNormGradients& found,
                      const Threads& threads) {
  assert(!diff_residual || (norm.relu && dst));
  const int channels = norm.channels;
  const Affine affine(norm);
  BatchNormArgs all = args_of(norm, affine);
  all.src = src;
  all.dst = const_cast<float*>(dst);  // only read
  all.diff_dst = diff_dst;
  all.diff_dst_2 = diff_dst_2;
  all.diff_residual = diff_residual;
  const ReluMask mask = !norm.relu      ? ReluMask::kNone
                        : diff_residual ? ReluMask::kFromDst
                                        : ReluMask::kRecomputed;
  const int64_t chunks = threads.chunks(norm.rows);
  std::vector<double> sums(chunks * 2 * channels);
  threads.each_chunk(norm.rows, [&](int64_t chunk, int64_t first, int64_t last) {
    std::vector<float> piece(2 * size_t(channels));
    double* total = sums.data() + chunk * 2 * channels;
    each_piece(first, last, channels, [&](int64_t row, int64_t count) {
      BatchNormArgs some = piece_of(all, row, count);
      some.sums = piece.data();
      some.products = piece.data() + channels;
      isa.batch_norm_kernels()->reduce_gradients(some, mask);
      for (int i = 0; i < 2 * channels; ++i) total[i] += piece[i];
    });
  });
  const bool shared = of_batch && norm.rows > 0;
  const double share = shared ? 1.0 / double(norm.rows) : 0.0;
  for (int c = 0; c < channels; ++c) {
    double sum = 0, product = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      sum += sums[chunk * 2 * channels + c];
      product += sums[(chunk * 2 + 1) * channels + c];
    }
    const double rstd = 1 / std::sqrt(double(norm.variance[c]) + norm.epsilon);
    const double diff_scale = norm.gamma[c] * rstd;
    found.diff_gamma[c] = float(product * rstd);
    found.diff_beta[c] = float(sum);
    found.diff_scale[c] = float(diff_scale);
    found.deviation_scale[c] = float(-diff_scale * rstd * rstd * product * share);
    found.diff_mean[c] = float(sum * share);
    found.scale[c] = affine.scale[c];
    found.shift[c] = affine.shift[c];
  }
}

void materialize(const Isa& isa, const Operand& operand, int64_t rows, int channels, float* dst,
                 const Threads& threads) {
  threads.each_chunk(rows, [&](int64_t, int64_t first, int64_t last) {
    each_piece(first, last, channels, [&](int64_t row, int64_t count) {
      isa.batch_norm_kernels()->materialize(operand, row, count, channels, dst + row * channels);
    });
  });
}

}  // namespace spfde
