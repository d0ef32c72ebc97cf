// Compares convolutions and normalizations of random shapes with plain loops in double precision,
// for the sanitizers and for processors that TensorFlow is not at hand for.
//
// A program on its own: needs the engine, but not TensorFlow.
// Usage: check [cases] [seed]
// The plain loops are not what is checked: they take no time even where nothing else is optimized.
#pragma GCC optimize("O1")

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine/activation.h"
#include "engine/batch_norm.h"
#include "engine/conv.h"
#include "engine/structure_cache.h"

namespace {

using spfde::Geometry;
using spfde::Prologue;
using Floats = std::vector<float>;

// Something to read in one way, and the values to be found there.
struct Input {
  Prologue prologue = Prologue::kNone;
  int channels = 0;
  Floats data, x, mean, diff_scale, deviation_scale, diff_mean, scale, shift, values;

  spfde::Operand operand() const {
    spfde::Operand operand(data.data());
    operand.prologue = prologue;
    operand.src = x.data();
    operand.mean = mean.data();
    operand.diff_scale = diff_scale.data();
    operand.deviation_scale = deviation_scale.data();
    operand.diff_mean = diff_mean.data();
    operand.scale = scale.data();
    operand.shift = shift.data();
    return operand;
  }
};

struct Case {
  Geometry geometry{};
  Input images, gradient;
  Floats kernel;
  std::vector<char> mask;
};

Floats normal(std::mt19937* random, int64_t size) {
  std::normal_distribution<float> distribution;
  Floats values(size);
  for (float& value : values) value = distribution(*random);
  return values;
}

Input make_input(std::mt19937* random, Prologue prologue, int64_t pixels, int channels) {
  const int64_t size = pixels * channels;
  Input made;
  made.prologue = prologue;
  made.channels = channels;
  made.data = normal(random, size);
  made.x = normal(random, size);
  for (Floats* by_channel : {&made.mean, &made.diff_scale, &made.deviation_scale, &made.diff_mean,
                             &made.scale, &made.shift})
    *by_channel = normal(random, channels);
  for (int64_t i = 0; i < size; ++i) {
    const int c = int(i % channels);
    double value = made.data[i];
    if (prologue == Prologue::kBatchNormRelu)
      value = std::max(0.0, value * made.scale[c] + made.shift[c]);
    if (prologue == Prologue::kBatchNormReluGrad && made.x[i] * made.scale[c] + made.shift[c] <= 0)
      value = 0;
    if (prologue == Prologue::kBatchNormGrad || prologue == Prologue::kBatchNormReluGrad)
      value = (value - made.diff_mean[c]) * made.diff_scale[c] +
              (double(made.x[i]) - made.mean[c]) * made.deviation_scale[c];
    made.values.push_back(float(value));
  }
  return made;
}

template <typename Visit>
void each_product(const Geometry& g, Visit visit) {
  for (int64_t n = 0; n < g.batch; ++n)
    for (int y = 0; y < g.dst_height; ++y)
      for (int x = 0; x < g.dst_width; ++x)
        for (int ky = 0; ky < g.kernel_height; ++ky)
          for (int kx = 0; kx < g.kernel_width; ++kx) {
            const int iy = y * g.stride + ky - g.pad_top, ix = x * g.stride + kx - g.pad_left;
            if (iy < 0 || iy >= g.src_height || ix < 0 || ix >= g.src_width) continue;
            visit(((n * g.src_height + iy) * g.src_width + ix) * g.src_channels,
                  ((n * g.dst_height + y) * g.dst_width + x) * g.dst_channels,
                  (int64_t(ky) * g.kernel_width + kx) * g.src_channels * g.dst_channels);
          }
}

Case make_case(std::mt19937* random) {
  auto between = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(*random);
  };
  // Many pixels in a row, each of which sees its column only, fill the lanes by themselves.
  const bool wide = between(0, 2) == 0;
  const int rows = between(1, 5), columns = wide ? 1 : between(0, 1) ? rows : between(1, 5);
  std::array<int64_t, 4> pad{};
  for (int i = 0; i < 4; ++i) pad[i] = between(0, (i < 2 ? rows : columns) - 1);
  const int64_t height = std::max<int64_t>(between(1, 19), rows - pad[0] - pad[1]);
  const int64_t width =
      wide ? between(50, 150) : std::max<int64_t>(between(1, 19), columns - pad[2] - pad[3]);
  const int channels = between(1, 36);
  Case made;
  made.geometry =
      spfde::make_geometry({between(1, wide ? 5 : 35), height, width, channels},
                           {rows, columns, channels, between(1, 36)}, between(1, 2), pad);
  const Geometry& g = made.geometry;
  const double density = between(0, 9) == 0 ? 0 : between(1, 10) * 0.1;
  const Prologue prologues[] = {Prologue::kNone, Prologue::kBatchNormGrad,
                                Prologue::kBatchNormReluGrad};
  made.images = make_input(random, between(0, 1) ? Prologue::kNone : Prologue::kBatchNormRelu,
                           g.batch * g.src_height * g.src_width, g.src_channels);
  made.gradient = make_input(random, prologues[between(0, 2)], g.batch * g.dst_height * g.dst_width,
                             g.dst_channels);
  made.kernel = normal(random, g.weights());
  for (float& weight : made.kernel) {
    made.mask.push_back(std::bernoulli_distribution(density)(*random));
    if (!made.mask.back()) weight = 0;
  }
  return made;
}

spfde::Threads threads(int count) {
  return {count, [count](int64_t chunks, const std::function<void(int64_t)>& compute) {
            std::atomic<int64_t> next{0};
            std::vector<std::thread> pool;
            pool.reserve(count);
            for (int t = 0; t < count; ++t)
              pool.emplace_back([&] {
                for (int64_t i; (i = next++) < chunks;) compute(i);
              });
            for (std::thread& thread : pool) thread.join();
          }};
}

// Whether chunks follow each other from the first row to the last, and none is empty or, but for
// rounding, larger than the one before it.
bool chunks_are_right(int64_t work, int threads) {
  int64_t end = 0, size = work;
  bool right = true;
  const spfde::Threads inline_threads{
      threads, [](int64_t count, const std::function<void(int64_t)>& compute) {
        for (int64_t i = 0; i < count; ++i) compute(i);
      }};
  inline_threads.each_chunk(work, [&](int64_t, int64_t first, int64_t last) {
    right &= first == end && last > first && last - first <= size + 1;
    size = last - first;
    end = last;
  });
  return right && end == work;
}

// Whether shapes and structures that the engine cannot compute are refused, not computed.
bool limits_hold() {
  auto refused = [](auto make) {
    try {
      make();
    } catch (const std::logic_error&) {
      return true;
    }
    return false;
  };
  const std::vector<char> kept(25'000, 1);
  const bool* mask = reinterpret_cast<const bool*>(kept.data());
  const int64_t most = std::numeric_limits<int64_t>::max();
  return refused([&] { spfde::make_geometry({most, most, most, 1}, {1, 1, 1, 1}, 1, {}); }) &&
         refused([&] { spfde::make_geometry({1, 5, 5, 1}, {3, 3, 1, 1}, 1, {0, 3, 0, 0}); }) &&
         refused([&] { spfde::make_geometry({1, 5, 5, 1}, {3, 3, 1, 1}, 1, {-1, 0, 0, 0}); }) &&
         refused([&] {  // offsets
           const Geometry wide = spfde::make_geometry({1, 1, 1 << 28, 4}, {1, 3, 4, 1}, 1, {});
           spfde::Structure(wide, spfde::Direction::kForward, 4, mask);
         }) &&
         refused([&] {  // how many there are
           const Geometry high = spfde::make_geometry({1, 25'000, 1, 1}, {25'000, 1, 1, 1}, 1, {});
           spfde::Structure(high, spfde::Direction::kForward, 4, mask);
         });
}

template <typename Exact>
double error(const Floats& found, const std::vector<Exact>& expected) {
  double worst = 0, scale = 1e-6;
  for (size_t i = 0; i < found.size(); ++i) {
    worst = std::max(worst, std::fabs(found[i] - double(expected[i])));
    scale = std::max(scale, std::fabs(double(expected[i])));
  }
  return worst / scale;
}

// The largest error of a normalization and its gradient, as a share of the scale of results.
double check_batch_norm(const Input& input, const Input& residual, const spfde::Isa& isa,
                        const spfde::Threads& pool) {
  const int channels = input.channels;
  const int64_t rows = int64_t(input.values.size()) / channels;
  Floats found(input.values.size());
  spfde::materialize(isa, input.operand(), rows, channels, found.data(), pool);
  double worst = error(found, input.values);

  const Floats& x = input.values;
  std::vector<double> exact_mean(channels), exact_variance(channels);
  for (size_t i = 0; i < x.size(); ++i) exact_mean[i % channels] += x[i] / double(rows);
  for (size_t i = 0; i < x.size(); ++i)
    exact_variance[i % channels] += std::pow(x[i] - exact_mean[i % channels], 2) / double(rows);
  Floats mean(channels), variance(channels);
  spfde::moments(isa, x.data(), rows, channels, mean.data(), variance.data(), pool);
  worst = std::max({worst, error(mean, exact_mean), error(variance, exact_variance)});

  const Floats& added = residual.values;
  const spfde::BatchNorm n{
      rows,  channels, mean.data(), variance.data(), input.diff_scale.data(), input.shift.data(),
      1e-3f, true};
  std::vector<double> exact(x.size()), of_residual(x.size()), of_beta(channels), of_gamma(channels);
  for (size_t i = 0; i < x.size(); ++i) {
    const int c = int(i % channels);
    const double normalized = (x[i] - exact_mean[c]) / std::sqrt(exact_variance[c] + n.epsilon);
    exact[i] = std::max(0.0, normalized * n.gamma[c] + n.beta[c] + added[i]);
    of_residual[i] = exact[i] > 0 ? double(residual.data[i]) + input.data[i] : 0;
    of_beta[c] += of_residual[i];
    of_gamma[c] += of_residual[i] * normalized;
  }
  Floats y(x.size()), passed = residual.data;
  std::array<Floats, 7> sums;
  sums.fill(Floats(channels));
  spfde::normalize(isa, n, x.data(), added.data(), y.data(), pool);
  worst = std::max(worst, error(y, exact));
  // The gradient that passes takes the place of the whole one.
  spfde::reduce_gradients(isa, n, true, x.data(), y.data(), passed.data(), input.data.data(),
                          passed.data(),
                          {sums[0].data(), sums[1].data(), sums[2].data(), sums[3].data(),
                           sums[4].data(), sums[5].data(), sums[6].data()},
                          pool);
  worst = std::max(worst, error(passed, of_residual));
  worst = std::max(worst, error(sums[0], of_gamma));
  return std::max(worst, error(sums[1], of_beta));
}

// The same of GELU and its gradient.
double check_gelu(const Input& x, const Input& gradient, const spfde::Isa& isa,
                  const spfde::Threads& pool) {
  const size_t size = std::min(x.data.size(), gradient.data.size());
  std::vector<double> exact(size), of_x(size);
  for (size_t i = 0; i < size; ++i) {
    const double v = x.data[i], distribution = 0.5 * std::erfc(-v * std::sqrt(0.5));
    exact[i] = v * distribution;
    of_x[i] = gradient.data[i] * (distribution + v * std::exp(-v * v / 2) * 0.3989422804014327);
  }
  Floats found(size, NAN);
  spfde::gelu(isa, x.data.data(), int64_t(size), found.data(), pool);
  const double worst = error(found, exact);
  spfde::gelu_gradient(isa, x.data.data(), gradient.data.data(), int64_t(size), found.data(), pool);
  return std::max(worst, error(found, of_x));
}

// The largest error of all results, as a share of their scale.
double check(const Case& c, const spfde::Isa& isa, int thread_count) {
  const Geometry& g = c.geometry;
  std::vector<double> outputs(c.gradient.values.size()), input_gradient(c.images.values.size()),
      diff_weights(c.kernel.size());
  each_product(g, [&](int64_t in, int64_t out, int64_t weights) {
    for (int i = 0; i < g.src_channels; ++i)
      for (int o = 0; o < g.dst_channels; ++o) {
        const int64_t w = weights + int64_t(i) * g.dst_channels + o;
        if (!c.mask[w]) continue;
        outputs[out + o] += double(c.images.values[in + i]) * c.kernel[w];
        input_gradient[in + i] += double(c.gradient.values[out + o]) * c.kernel[w];
        diff_weights[w] += double(c.images.values[in + i]) * c.gradient.values[out + o];
      }
  });
  const bool* mask = reinterpret_cast<const bool*>(c.mask.data());
  const int lanes = spfde::choose_lanes(g.samples(), isa.lanes);
  spfde::StructureCache forward(spfde::Direction::kForward),
      backward(spfde::Direction::kBackwardData);
  const auto pool = threads(thread_count);
  std::vector<float> found(outputs.size(), NAN);
  spfde::convolve(isa, *forward.get(g, lanes, mask), g, c.kernel.data(), c.images.operand(),
                  found.data(), pool);
  double worst = error(found, outputs);
  found.assign(input_gradient.size(), NAN);
  spfde::convolve(isa, *backward.get(g, lanes, mask), g, c.kernel.data(), c.gradient.operand(),
                  found.data(), pool);
  worst = std::max(worst, error(found, input_gradient));
  found.assign(diff_weights.size(), NAN);
  spfde::backward_weights(isa, *forward.get(g, lanes, mask), g, c.images.operand(),
                          c.gradient.operand(), found.data(), pool);
  std::vector<float> again(found.size());
  spfde::backward_weights(isa, *forward.get(g, lanes, mask), g, c.images.operand(),
                          c.gradient.operand(), again.data(), pool);
  if (found != again) return INFINITY;  // not deterministic
  worst = std::max(worst, error(found, diff_weights));
  found.assign(diff_weights.size(), NAN);
  std::vector<float> both(input_gradient.size(), NAN);
  spfde::backward(isa, *forward.get(g, lanes, mask), *backward.get(g, lanes, mask), g,
                  c.kernel.data(), c.images.operand(), c.gradient.operand(), both.data(),
                  found.data(), pool);
  worst = std::max({worst, error(both, input_gradient), error(found, diff_weights)});
  // Any two of the same shape will do.
  worst = std::max(worst, check_gelu(c.images, c.gradient, isa, pool));
  return std::max(worst, check_batch_norm(c.gradient, c.gradient, isa, pool));
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? int(std::strtol(argv[1], nullptr, 10)) : 100;
  std::mt19937 random(argc > 2 ? unsigned(std::strtol(argv[2], nullptr, 10)) : 0);
  for (int64_t work = 0; work < 500; ++work)
    for (int threads = 1; threads <= 9; ++threads)
      if (!chunks_are_right(work, threads)) {
        std::printf("chunks of %ld rows for %d threads are wrong\n", long(work), threads);
        return 1;
      }
  if (!limits_hold()) {
    std::printf("what is too large is not refused\n");
    return 1;
  }
  double worst = 0;
  for (int i = 0; i < cases; ++i) {
    const Case c = make_case(&random);
    for (const spfde::Isa* isa : spfde::usable_isas()) {
      const double found = check(c, *isa, 1 + i % 3);
      worst = found <= worst ? worst : found;
      if (!(found < 1e-5)) {
        const Geometry& g = c.geometry;
        std::printf("%s is off by %g: %ld images %dx%dx%d, kernel %dx%dx%d, stride %d, pad %d %d\n",
                    isa->name, found, long(g.batch), g.src_height, g.src_width, g.src_channels,
                    g.kernel_height, g.kernel_width, g.dst_channels, g.stride, g.pad_top,
                    g.pad_left);
        return 1;
      }
    }
  }
  std::printf("%d cases:", cases);
  for (const spfde::Isa* isa : spfde::usable_isas()) std::printf(" %s", isa->name);
  std::printf(", largest error %.1e\n", worst);
}
