#include "normalization.h"

#include <cmath>
#include <vector>

namespace spfde {
namespace {

constexpr int64_t kPieceFloats = 8192;  // two passes over as many find them in the first cache

// Calls compute(piece, first row, rows) for rows [first, last), by pieces.
template <typename Compute>
void each_piece(int64_t first, int64_t last, int channels, Compute compute) {
  const int64_t most = std::max<int64_t>(1, kPieceFloats / channels);
  for (int64_t row = first; row < last; row += most) compute(row, std::min(most, last - row));
}

Rows rows_of(const Normalization& n, const Line& line) {
  Rows rows{};
  rows.channels = n.channels;
  rows.scale = line.scale.data();
  rows.shift = line.shift.data();
  rows.mean = n.mean;
  return rows;
}

// Moves on to other rows: those of the whole arrays of `all` from `first`.
Rows at(const Rows& all, int64_t first, int64_t count) {
  Rows rows = all;
  const ptrdiff_t skipped = first * all.channels;
  rows.count = count;
  for (const float** p : {&rows.x, &rows.residual, &rows.gradient, &rows.more})
    if (*p) *p += skipped;
  for (float** p : {&rows.y, &rows.of_residual})
    if (*p) *p += skipped;
  return rows;
}

}  // namespace

Line::Line(const Normalization& n) : scale(n.channels), shift(n.channels) {
  for (int c = 0; c < n.channels; ++c) {
    scale[c] = n.gamma[c] / std::sqrt(n.variance[c] + n.epsilon);
    shift[c] = n.beta[c] - n.mean[c] * scale[c];
  }
}

void moments(const Isa& isa, const float* x, int64_t rows, int channels, float* mean,
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
  Rows all{};
  all.channels = channels;
  all.x = x;
  threads.each_chunk(rows, [&](int64_t chunk, int64_t first, int64_t last) {
    std::vector<float> piece(2 * channels);
    double* means = found.data() + chunk * 2 * channels;
    each_piece(first, last, channels, [&](int64_t row, int64_t count) {
      Rows some = at(all, row, count);
      some.sums = piece.data();
      some.products = piece.data() + channels;
      isa.normalizer()->moments(some);
      merge(some.sums, some.products, count, &counts[chunk], means, means + channels);
    });
  });
  std::vector<double> total(2 * channels);
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

void normalize(const Isa& isa, const Normalization& normalization, const float* x,
               const float* residual, float* y, const Threads& threads) {
  const Line line(normalization);
  Rows all = rows_of(normalization, line);
  all.x = x;
  all.residual = residual;
  all.y = y;
  threads.each_chunk(normalization.rows, [&](int64_t, int64_t first, int64_t last) {
    each_piece(first, last, all.channels, [&](int64_t row, int64_t count) {
      isa.normalizer()->normalize(at(all, row, count), normalization.relu);
    });
  });
}

void add_up(const Isa& isa, const Normalization& normalization, bool of_batch, const float* x,
            const float* y, const float* gradient, const float* more, float* of_residual,
            const NormalizationGradients& found, const Threads& threads) {
  const int channels = normalization.channels;
  const Line line(normalization);
  Rows all = rows_of(normalization, line);
  all.x = x;
  all.y = const_cast<float*>(y);
  all.gradient = gradient;
  all.more = more;
  all.of_residual = of_residual;
  const Passing passing = !normalization.relu ? Passing::kAll
                          : of_residual       ? Passing::kPositive
                                              : Passing::kRecomputed;
  const int64_t chunks = threads.chunks(normalization.rows);
  std::vector<double> sums(chunks * 2 * channels);
  threads.each_chunk(normalization.rows, [&](int64_t chunk, int64_t first, int64_t last) {
    std::vector<float> piece(2 * channels);
    double* total = sums.data() + chunk * 2 * channels;
    each_piece(first, last, channels, [&](int64_t row, int64_t count) {
      Rows some = at(all, row, count);
      some.sums = piece.data();
      some.products = piece.data() + channels;
      isa.normalizer()->add_up(some, passing);
      for (int i = 0; i < 2 * channels; ++i) total[i] += piece[i];
    });
  });
  const bool shared = of_batch && normalization.rows > 0;
  const double share = shared ? 1.0 / double(normalization.rows) : 0.0;
  for (int c = 0; c < channels; ++c) {
    double sum = 0, product = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      sum += sums[chunk * 2 * channels + c];
      product += sums[(chunk * 2 + 1) * channels + c];
    }
    const double inverse = 1 / std::sqrt(double(normalization.variance[c]) + normalization.epsilon);
    const double slope = normalization.gamma[c] * inverse;
    found.gamma[c] = float(product * inverse);
    found.beta[c] = float(sum);
    found.slope[c] = float(slope);
    found.curve[c] = float(-slope * inverse * inverse * product * share);
    found.average[c] = float(sum * share);
    found.scale[c] = line.scale[c];
    found.shift[c] = line.shift[c];
  }
}

void copy(const Isa& isa, const Source& source, int64_t rows, int channels, float* to,
          const Threads& threads) {
  threads.each_chunk(rows, [&](int64_t, int64_t first, int64_t last) {
    each_piece(first, last, channels, [&](int64_t row, int64_t count) {
      isa.normalizer()->copy(source, row, count, channels, to + row * channels);
    });
  });
}

}  // namespace spfde
