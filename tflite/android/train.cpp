#include "train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "file.h"
#include "model.h"

namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<char>;

size_t IndexOf(const std::vector<Tensor>& tensors, const std::string& name) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].name == name) return i;
  }
  throw std::runtime_error("The file does not train: a signature lacks " + name);
}

bool Has(const std::vector<Tensor>& tensors, const std::string& name) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const Tensor& tensor) { return tensor.name == name; });
}

template <typename Value>
std::vector<Value> Values(const Bytes& bytes) {
  std::vector<Value> values(bytes.size() / sizeof(Value));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(Value));
  return values;
}

template <typename Value>
Bytes BytesOf(const std::vector<Value>& values) {
  const char* first = reinterpret_cast<const char*>(values.data());
  return Bytes(first, first + values.size() * sizeof(Value));
}

// How many times a file of raw values holds what a tensor takes.
size_t Parts(const std::string& path, const Bytes& bytes, const Tensor& tensor) {
  const size_t size = tensor.Size();
  if (bytes.empty() || bytes.size() % size) {
    throw std::runtime_error(path + " must have a multiple of " + std::to_string(size) +
                             " bytes for " + tensor.Describe() +
                             ". Received: " + std::to_string(bytes.size()));
  }
  return bytes.size() / size;
}

void CheckSame(const std::string& folder, size_t x, size_t y) {
  if (x != y) {
    throw std::runtime_error(folder + " must have as many samples in x.raw as labels in y.raw");
  }
}

// The labels of a folder: classes, below the number of outputs, or 0 and 1 for a single one.
std::vector<int32_t> Labels(const std::string& path, size_t outputs) {
  const Bytes bytes = ReadFile(path);
  const auto labels = Values<int32_t>(bytes);
  const auto classes = static_cast<int32_t>(std::max<size_t>(outputs, 2));
  const bool known = std::all_of(labels.begin(), labels.end(),
                                 [&](int32_t label) { return label >= 0 && label < classes; });
  if (bytes.size() % sizeof(int32_t) || !known) {
    throw std::runtime_error(path + " must hold int32 classes below " + std::to_string(classes));
  }
  return labels;
}

// The class that outputs name: the largest; of a single one, whether it is above a half.
int32_t ClassOf(const std::vector<float>& outputs) {
  if (std::any_of(outputs.begin(), outputs.end(), [](float value) { return std::isnan(value); })) {
    throw std::runtime_error("The file gives NaN for a sample");
  }
  if (outputs.size() == 1) return outputs[0] > 0.5f ? 1 : 0;
  const auto largest = std::max_element(outputs.begin(), outputs.end());
  return static_cast<int32_t>(largest - outputs.begin());
}

void Restore(const Model& model, const Program& program, const std::string& path) {
  Session session(program, model.Find("restore"));
  const Bytes state = ReadFile(path);
  if (state.size() != session.signature().inputs[0].Size()) {
    throw std::runtime_error(path + " is no state of this file: it has another size");
  }
  session.Write(0, state);
  session.Run();
  if (Values<int32_t>(session.Read(0))[0] != 1) {
    throw std::runtime_error(path + " is no state of this file, or damaged");
  }
}

void TrainOn(const Model& model, const Program& program, const Options& options) {
  Session session(program, model.Find("train"));
  const std::vector<Tensor>& inputs = session.signature().inputs;
  const size_t x = IndexOf(inputs, "x"), y = IndexOf(inputs, "y"), rate = IndexOf(inputs, "rate");
  const Bytes samples = ReadFile(options.train + "/x.raw");
  const Bytes labels = ReadFile(options.train + "/y.raw");
  const size_t steps = Parts(options.train + "/x.raw", samples, inputs[x]);
  CheckSame(options.train, steps, Parts(options.train + "/y.raw", labels, inputs[y]));
  const std::vector<float> rates(inputs[rate].Size() / sizeof(float), options.rate);
  session.Write(rate, BytesOf(rates));
  const size_t loss = IndexOf(session.signature().outputs, "loss");
  const bool counts = Has(inputs, "sample");
  for (int epoch = 1; epoch <= options.epochs; ++epoch) {
    double total = 0;
    const auto start = Clock::now();
    for (size_t step = 0; step < steps; ++step) {
      session.Write(x, samples.data() + step * inputs[x].Size());
      session.Write(y, labels.data() + step * inputs[y].Size());
      if (counts) {
        const size_t sample = IndexOf(inputs, "sample");
        std::vector<int32_t> ids(inputs[sample].Size() / sizeof(int32_t));
        std::iota(ids.begin(), ids.end(), int32_t(step * ids.size()));
        session.Write(sample, BytesOf(ids));
      }
      session.Run();
      const float value = Values<float>(session.Read(loss))[0];
      if (!std::isfinite(value)) {
        throw std::runtime_error("Step " + std::to_string(step + 1) + " of epoch " +
                                 std::to_string(epoch) +
                                 " changed nothing: a label is no class, an id no sample, or the "
                                 "loss is not finite");
      }
      total += value;
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const auto count = static_cast<double>(steps);
    std::printf("epoch %d: loss %.9g, %.3f ms a step\n", epoch, total / count,
                1000 * seconds / count);
  }
}

void Test(const Model& model, const Program& program, const std::string& folder) {
  Session session(program, model.Find("infer"));
  const Tensor& output = session.signature().outputs[0];
  if (!output.is_float32()) {
    throw std::runtime_error("--test needs float32 outputs. Received: " + output.Describe());
  }
  const Bytes samples = ReadFile(folder + "/x.raw");
  const auto labels = Labels(folder + "/y.raw", output.Size() / sizeof(float));
  const size_t size = session.signature().inputs[0].Size();
  const size_t count = Parts(folder + "/x.raw", samples, session.signature().inputs[0]);
  CheckSame(folder, count, labels.size());
  size_t right = 0;
  for (size_t i = 0; i < count; ++i) {
    session.Write(0, samples.data() + i * size);
    session.Run();
    right += ClassOf(Values<float>(session.Read(0))) == labels[i];
  }
  std::printf("test: %zu of %zu right\n", right, count);
}

void Save(const Model& model, const Program& program, const std::string& path) {
  Session session(program, model.Find("save"));
  session.Run();
  WriteFile(path, session.Read(0));
}

}  // namespace

void Train(const Options& options) {
  const Model model(options.model);
  // Before hours of training: the folder must be there, and let itself be written to.
  if (!options.save.empty()) CheckWritable(options.save);
  const Program program(model);
  if (!options.restore.empty()) Restore(model, program, options.restore);
  if (!options.train.empty()) TrainOn(model, program, options);
  if (!options.test.empty()) Test(model, program, options.test);
  if (!options.save.empty()) Save(model, program, options.save);
}
