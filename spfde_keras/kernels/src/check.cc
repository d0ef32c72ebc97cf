// Compares convolutions of random shapes with plain loops in double precision, for the sanitizers
// and for processors that TensorFlow is not at hand for.
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

#include "run.h"

namespace {

using spfde::Geometry;

struct Case {
  Geometry geometry;
  std::vector<float> images, kernel, gradient;
  std::vector<char> mask;
};

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
  std::normal_distribution<float> normal;
  const double density = between(0, 9) == 0 ? 0 : between(1, 10) * 0.1;
  auto fill = [&](std::vector<float>* values, int64_t size) {
    values->resize(size);
    for (float& value : *values) value = normal(*random);
  };
  fill(&made.images, g.batch * g.height * g.width * g.inputs);
  fill(&made.gradient, g.batch * g.out_height * g.out_width * g.outputs);
  fill(&made.kernel, int64_t(g.kernel_height) * g.kernel_width * g.inputs * g.outputs);
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

double error(const std::vector<float>& found, const std::vector<double>& expected) {
  double worst = 0, scale = 1e-6;
  for (size_t i = 0; i < found.size(); ++i) {
    worst = std::max(worst, std::fabs(found[i] - expected[i]));
    scale = std::max(scale, std::fabs(expected[i]));
  }
  return worst / scale;
}

// The largest error of all results, as a share of their scale.
double check(const Case& c, const spfde::Isa& isa, int thread_count) {
  const Geometry& g = c.geometry;
  std::vector<double> outputs(c.gradient.size()), input_gradient(c.images.size()),
      kernel_gradient(c.kernel.size());
  each_product(g, [&](int64_t in, int64_t out, int64_t weights) {
    for (int i = 0; i < g.inputs; ++i)
      for (int o = 0; o < g.outputs; ++o) {
        const int64_t w = weights + i * g.outputs + o;
        if (!c.mask[w]) continue;
        outputs[out + o] += double(c.images[in + i]) * c.kernel[w];
        input_gradient[in + i] += double(c.gradient[out + o]) * c.kernel[w];
        kernel_gradient[w] += double(c.images[in + i]) * c.gradient[out + o];
      }
  });
  const bool* mask = reinterpret_cast<const bool*>(c.mask.data());
  const int lanes = spfde::choose_lanes(g.samples(), isa.lanes);
  spfde::StructureCache forward(spfde::Kind::kForward), backward(spfde::Kind::kInputGradient);
  const auto pool = threads(thread_count);
  std::vector<float> found(outputs.size(), NAN);
  spfde::convolve(isa, *forward.get(g, lanes, mask), g, c.kernel.data(), c.images.data(),
                  found.data(), pool);
  double worst = error(found, outputs);
  found.assign(input_gradient.size(), NAN);
  spfde::convolve(isa, *backward.get(g, lanes, mask), g, c.kernel.data(), c.gradient.data(),
                  found.data(), pool);
  worst = std::max(worst, error(found, input_gradient));
  found.assign(kernel_gradient.size(), NAN);
  spfde::correlate(isa, *forward.get(g, lanes, mask), g, c.images.data(), c.gradient.data(),
                   found.data(), pool);
  std::vector<float> again(found.size());
  spfde::correlate(isa, *forward.get(g, lanes, mask), g, c.images.data(), c.gradient.data(),
                   again.data(), pool);
  if (found != again) return INFINITY;  // not deterministic
  worst = std::max(worst, error(found, kernel_gradient));
  found.assign(kernel_gradient.size(), NAN);
  std::vector<float> both(input_gradient.size(), NAN);
  spfde::differentiate(isa, *forward.get(g, lanes, mask), *backward.get(g, lanes, mask), g,
                       c.kernel.data(), c.images.data(), c.gradient.data(), both.data(),
                       found.data(), pool);
  worst = std::max(worst, error(both, input_gradient));
  return std::max(worst, error(found, kernel_gradient));
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 100;
  std::mt19937 random(argc > 2 ? std::atoi(argv[2]) : 0);
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
