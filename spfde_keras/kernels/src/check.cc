// Compares convolutions and normalizations of random shapes with plain loops in double precision,
// for the sanitizers and for processors that TensorFlow is not at hand for.
//
// Usage: check [cases] [seed]
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "normalization.h"
#include "run.h"

namespace {

using spfde::Geometry;

using spfde::Reading;
using Floats = std::vector<float>;

// Something to read in one way, and the values to be found there.
struct Input {
  Reading reading;
  int channels;
  Floats data, x, mean, slope, curve, average, scale, shift, values;

  spfde::Source source() const {
    spfde::Source source(data.data());
    source.reading = reading;
    source.x = x.data();
    source.mean = mean.data();
    source.slope = slope.data();
    source.curve = curve.data();
    source.average = average.data();
    source.scale = scale.data();
    source.shift = shift.data();
    return source;
  }
};

struct Case {
  Geometry geometry;
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

Input make_input(std::mt19937* random, Reading reading, int64_t pixels, int channels) {
  const int64_t size = pixels * channels;
  Input made{reading, channels, normal(random, size), normal(random, size)};
  for (Floats* by_channel :
       {&made.mean, &made.slope, &made.curve, &made.average, &made.scale, &made.shift})
    *by_channel = normal(random, channels);
  for (int64_t i = 0; i < size; ++i) {
    const int c = int(i % channels);
    double value = made.data[i];
    if (reading == Reading::kNormalized)
      value = std::max(0.0, value * made.scale[c] + made.shift[c]);
    if (reading == Reading::kPassingGradient && made.x[i] * made.scale[c] + made.shift[c] <= 0)
      value = 0;
    if (reading == Reading::kGradient || reading == Reading::kPassingGradient)
      value = (value - made.average[c]) * made.slope[c] +
              (double(made.x[i]) - made.mean[c]) * made.curve[c];
    made.values.push_back(float(value));
  }
  return made;
}

template <typename Visit>
void each_product(const Geometry& g, Visit visit) {
  for (int64_t n = 0; n < g.batch; ++n)
    for (int y = 0; y < g.out_height; ++y)
      for (int x = 0; x < g.out_width; ++x)
        for (int ky = 0; ky < g.kernel_height; ++ky)
          for (int kx = 0; kx < g.kernel_width; ++kx) {
            const int iy = y * g.stride + ky - g.pad_top, ix = x * g.stride + kx - g.pad_left;
            if (iy < 0 || iy >= g.height || ix < 0 || ix >= g.width) continue;
            visit(((n * g.height + iy) * g.width + ix) * g.inputs,
                  ((n * g.out_height + y) * g.out_width + x) * g.outputs,
                  (ky * g.kernel_width + kx) * g.inputs * g.outputs);
          }
}

Case make_case(std::mt19937* random) {
  auto between = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(*random);
  };
  Case made;
  Geometry& g = made.geometry;
  g.batch = between(1, 35);
  g.kernel_height = between(1, 5);
  g.kernel_width = between(0, 1) ? g.kernel_height : between(1, 5);
  g.stride = between(1, 2);
  g.pad_top = between(0, g.kernel_height - 1);
  g.pad_left = between(0, g.kernel_width - 1);
  const int pad_bottom = between(0, g.kernel_height - 1), pad_right = between(0, g.kernel_width - 1);
  g.height = std::max(between(1, 19), g.kernel_height - g.pad_top - pad_bottom);
  g.width = std::max(between(1, 19), g.kernel_width - g.pad_left - pad_right);
  g.inputs = between(1, 36);
  g.outputs = between(1, 36);
  g.out_height = (g.height + g.pad_top + pad_bottom - g.kernel_height) / g.stride + 1;
  g.out_width = (g.width + g.pad_left + pad_right - g.kernel_width) / g.stride + 1;
  const double density = between(0, 9) == 0 ? 0 : between(1, 10) * 0.1;
  const Reading readings[] = {Reading::kPlain, Reading::kGradient, Reading::kPassingGradient};
  made.images = make_input(random, between(0, 1) ? Reading::kPlain : Reading::kNormalized,
                           g.batch * g.height * g.width, g.inputs);
  made.gradient = make_input(random, readings[between(0, 2)], g.batch * g.out_height * g.out_width,
                             g.outputs);
  made.kernel = normal(random, int64_t(g.kernel_height) * g.kernel_width * g.inputs * g.outputs);
  for (float& weight : made.kernel) {
    made.mask.push_back(std::bernoulli_distribution(density)(*random));
    weight *= made.mask.back();
  }
  return made;
}

spfde::Threads threads(int count) {
  return {count, [count](int64_t chunks, const std::function<void(int64_t)>& compute) {
            std::atomic<int64_t> next{0};
            std::vector<std::thread> pool;
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
double check_normalization(const Input& input, const Input& residual, const spfde::Isa& isa,
                           const spfde::Threads& pool) {
  const int channels = input.channels;
  const int64_t rows = input.values.size() / channels;
  Floats found(input.values.size());
  spfde::copy(isa, input.source(), rows, channels, found.data(), pool);
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
  const spfde::Normalization n{rows, channels, mean.data(), variance.data(), input.slope.data(),
                               input.shift.data(), 1e-3f, true};
  std::vector<double> exact(x.size()), of_residual(x.size()), of_beta(channels), of_gamma(channels);
  for (size_t i = 0; i < x.size(); ++i) {
    const int c = int(i % channels);
    const double normalized = (x[i] - exact_mean[c]) / std::sqrt(exact_variance[c] + n.epsilon);
    exact[i] = std::max(0.0, normalized * n.gamma[c] + n.beta[c] + added[i]);
    of_residual[i] = exact[i] > 0 ? double(residual.data[i]) + input.data[i] : 0;
    of_beta[c] += of_residual[i];
    of_gamma[c] += of_residual[i] * normalized;
  }
  Floats y(x.size()), passed = residual.data, all(7 * channels);
  spfde::normalize(isa, n, x.data(), added.data(), y.data(), pool);
  worst = std::max(worst, error(y, exact));
  float* sums = all.data();
  // The gradient that passes takes the place of the whole one.
  spfde::add_up(isa, n, true, x.data(), y.data(), passed.data(), input.data.data(), passed.data(),
                {sums, sums + channels, sums + 2 * channels, sums + 3 * channels,
                 sums + 4 * channels, sums + 5 * channels, sums + 6 * channels},
                pool);
  worst = std::max(worst, error(passed, of_residual));
  worst = std::max(worst, error(Floats(sums, sums + channels), of_gamma));
  return std::max(worst, error(Floats(sums + channels, sums + 2 * channels), of_beta));
}

// The largest error of all results, as a share of their scale.
double check(const Case& c, const spfde::Isa& isa, int thread_count) {
  const Geometry& g = c.geometry;
  std::vector<double> outputs(c.gradient.values.size()), input_gradient(c.images.values.size()),
      kernel_gradient(c.kernel.size());
  each_product(g, [&](int64_t in, int64_t out, int64_t weights) {
    for (int i = 0; i < g.inputs; ++i)
      for (int o = 0; o < g.outputs; ++o) {
        const int64_t w = weights + i * g.outputs + o;
        if (!c.mask[w]) continue;
        outputs[out + o] += double(c.images.values[in + i]) * c.kernel[w];
        input_gradient[in + i] += double(c.gradient.values[out + o]) * c.kernel[w];
        kernel_gradient[w] += double(c.images.values[in + i]) * c.gradient.values[out + o];
      }
  });
  const bool* mask = reinterpret_cast<const bool*>(c.mask.data());
  const int lanes = spfde::choose_lanes(g.samples(), isa.lanes);
  spfde::StructureCache forward(spfde::Kind::kForward), backward(spfde::Kind::kInputGradient);
  const auto pool = threads(thread_count);
  std::vector<float> found(outputs.size(), NAN);
  spfde::convolve(isa, *forward.get(g, lanes, mask), g, c.kernel.data(), c.images.source(),
                  found.data(), pool);
  double worst = error(found, outputs);
  found.assign(input_gradient.size(), NAN);
  spfde::convolve(isa, *backward.get(g, lanes, mask), g, c.kernel.data(), c.gradient.source(),
                  found.data(), pool);
  worst = std::max(worst, error(found, input_gradient));
  found.assign(kernel_gradient.size(), NAN);
  spfde::correlate(isa, *forward.get(g, lanes, mask), g, c.images.source(), c.gradient.source(),
                   found.data(), pool);
  std::vector<float> again(found.size());
  spfde::correlate(isa, *forward.get(g, lanes, mask), g, c.images.source(), c.gradient.source(),
                   again.data(), pool);
  if (found != again) return INFINITY;  // not deterministic
  worst = std::max(worst, error(found, kernel_gradient));
  found.assign(kernel_gradient.size(), NAN);
  std::vector<float> both(input_gradient.size(), NAN);
  spfde::differentiate(isa, *forward.get(g, lanes, mask), *backward.get(g, lanes, mask), g,
                       c.kernel.data(), c.images.source(), c.gradient.source(), both.data(),
                       found.data(), pool);
  worst = std::max({worst, error(both, input_gradient), error(found, kernel_gradient)});
  // Any two of the same shape will do.
  return std::max(worst, check_normalization(c.gradient, c.gradient, isa, pool));
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 100;
  std::mt19937 random(argc > 2 ? std::atoi(argv[2]) : 0);
  for (int64_t work = 0; work < 500; ++work)
    for (int threads = 1; threads <= 9; ++threads)
      if (!chunks_are_right(work, threads)) {
        std::printf("chunks of %ld rows for %d threads are wrong\n", long(work), threads);
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
                    isa->name, found, long(g.batch), g.height, g.width, g.inputs, g.kernel_height,
                    g.kernel_width, g.outputs, g.stride, g.pad_top, g.pad_left);
        return 1;
      }
    }
  }
  std::printf("%d cases:", cases);
  for (const spfde::Isa* isa : spfde::usable_isas()) std::printf(" %s", isa->name);
  std::printf(", largest error %.1e\n", worst);
}
