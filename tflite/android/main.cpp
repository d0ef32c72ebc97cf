// Runs a .tflite file on a phone or a Linux machine: see kUsage.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "file.h"
#include "model.h"
#include "options.h"
#include "train.h"

namespace {

using Clock = std::chrono::steady_clock;

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void List(const Signature& signature) {
  std::printf("signature %s\n", signature.name.c_str());
  for (const Tensor& tensor : signature.inputs) {
    std::printf("  input %s\n", tensor.Describe().c_str());
  }
  for (const Tensor& tensor : signature.outputs) {
    std::printf("  output %s\n", tensor.Describe().c_str());
  }
}

std::vector<char> Random(const Tensor& tensor) {
  if (!tensor.is_float32()) {
    throw std::runtime_error("--input must be a file or zeros, as this is not float32: " +
                             tensor.Describe());
  }
  std::mt19937 generator(0);
  std::vector<char> bytes(tensor.Size());
  for (size_t i = 0; i < bytes.size(); i += sizeof(float)) {
    // Scaled here, since std::uniform_real_distribution differs between standard libraries.
    const float value = std::ldexp(float(generator() >> 8), -24);
    std::memcpy(&bytes[i], &value, sizeof(float));
  }
  return bytes;
}

std::vector<char> InputBytes(const std::string& source, const Tensor& tensor) {
  if (source == "zeros") return std::vector<char>(tensor.Size());
  if (source == "random") return Random(tensor);
  std::vector<char> bytes = ReadFile(source);
  if (bytes.size() != tensor.Size()) {
    throw std::runtime_error(source + " must have " + std::to_string(tensor.Size()) +
                             " bytes for " + tensor.Describe() +
                             ". Received: " + std::to_string(bytes.size()));
  }
  return bytes;
}

std::vector<std::vector<char>> InputsBytes(const Options& options, const Signature& signature) {
  const size_t count = signature.inputs.size();
  const std::vector<std::string> sources =
      options.inputs.empty() ? std::vector<std::string>(count, "random") : options.inputs;
  if (sources.size() != count) {
    throw std::runtime_error("--input must be given for all " + std::to_string(count) +
                             " inputs or for none. Received: " + std::to_string(sources.size()));
  }
  std::vector<std::vector<char>> inputs;
  inputs.reserve(count);
  for (size_t i = 0; i < count; ++i) inputs.push_back(InputBytes(sources[i], signature.inputs[i]));
  return inputs;
}

void PrintTop(const Tensor& tensor, const std::vector<char>& bytes, int top) {
  std::printf("output %s\n", tensor.Describe().c_str());
  if (!tensor.is_float32()) {
    std::printf("  not float32, so not shown\n");
    return;
  }
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // NaN comes first: it is what one has to know.
  const auto key = [&](size_t i) {
    return std::isnan(values[i]) ? std::numeric_limits<float>::infinity() : values[i];
  };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) > key(b); });
  order.resize(std::min(order.size(), size_t(top)));
  for (size_t i : order) std::printf("  %zu: %.9g\n", i, values[i]);
}

void Run(const Options& options) {
  const auto start = Clock::now();
  const Model model(options.model);
  if (options.list) {
    for (const Signature& signature : model.signatures()) List(signature);
    return;
  }
  const size_t index = model.Find(options.signature);
  const Signature& signature = model.signatures()[index];
  const auto inputs = InputsBytes(options, signature);
  const Program program(model);
  Session session(program, index);
  for (size_t i = 0; i < inputs.size(); ++i) session.Write(i, inputs[i]);
  const double loading = MillisecondsSince(start);

  for (int i = 0; i < options.warmup; ++i) session.Run();
  std::vector<double> times;
  for (int i = 0; i < options.runs; ++i) {
    const auto before = Clock::now();
    session.Run();
    times.push_back(MillisecondsSince(before));
  }
  std::sort(times.begin(), times.end());

  std::printf("signature %s\n", signature.name.c_str());
  std::printf("loading: %.3f ms\n", loading);
  std::printf("running: %.3f ms (median of %d; %.3f to %.3f)\n", times[times.size() / 2],
              options.runs, times.front(), times.back());
  for (size_t i = 0; i < signature.outputs.size(); ++i) {
    PrintTop(signature.outputs[i], session.Read(i), options.top);
  }
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const Options options = ParseOptions(count, arguments);
    if (options.help) {
      std::fputs(kUsage, stdout);
    } else if (options.trains()) {
      Train(options);
    } else {
      Run(options);
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
