#include "model.h"

#include <cstring>
#include <map>
#include <stdexcept>

#include "file.h"

namespace {

void Check(LiteRtStatus status, const std::string& failure) {
  if (status != kLiteRtStatusOk) {
    throw std::runtime_error(failure + " (LiteRT's status " + std::to_string(status) + ")");
  }
}

// What a LiteRT function stores through its last argument.
template <typename Value, typename Function, typename... Arguments>
Value Get(const std::string& failure, Function function, Arguments... arguments) {
  Value value{};
  Check(function(arguments..., &value), failure);
  return value;
}

struct Element {
  std::string name;
  size_t size;
};

// By LiteRtElementType; strings and bit-packed numbers are left out.
const std::map<int, Element>& Elements() {
  static const std::map<int, Element> elements = {
      {1, {"float32", 4}}, {2, {"int32", 4}},    {3, {"uint8", 1}},
      {4, {"int64", 8}},   {6, {"bool", 1}},     {7, {"int16", 2}},
      {9, {"int8", 1}},    {10, {"float16", 2}}, {11, {"float64", 8}}};
  return elements;
}

using CountOf = LiteRtStatus (*)(LiteRtSignature, size_t*);
using NameOf = LiteRtStatus (*)(LiteRtSignature, size_t, const char**);
using TensorOf = LiteRtStatus (*)(LiteRtSignature, size_t, LiteRtTensor*);

std::vector<Tensor> ReadTensors(LiteRtSignature signature, CountOf count_of, NameOf name_of,
                                TensorOf tensor_of) {
  const char failure[] = "A signature cannot be read";
  std::vector<Tensor> tensors(Get<size_t>(failure, count_of, signature));
  for (size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].name = Get<const char*>(failure, name_of, signature, i);
    tensors[i].type = Get<LiteRtRankedTensorType>(
        failure, LiteRtGetRankedTensorType, Get<LiteRtTensor>(failure, tensor_of, signature, i));
  }
  return tensors;
}

Signature ReadSignature(LiteRtSignature signature) {
  return {Get<const char*>("A signature has no name", LiteRtGetSignatureKey, signature),
          ReadTensors(signature, LiteRtGetNumSignatureInputs, LiteRtGetSignatureInputName,
                      LiteRtGetSignatureInputTensorByIndex),
          ReadTensors(signature, LiteRtGetNumSignatureOutputs, LiteRtGetSignatureOutputName,
                      LiteRtGetSignatureOutputTensorByIndex)};
}

LiteRtEnvironment CreateEnvironment() {
  // Neither GPU nor NPU is looked for. LiteRT is silent, as the runner's errors are one line each.
  const LiteRtEnvOption options[] = {
      {kLiteRtEnvOptionTagAutoRegisterAccelerators, {kLiteRtAnyTypeInt, kLiteRtHwAcceleratorCpu}},
      {kLiteRtEnvOptionTagMinLoggerSeverity, {kLiteRtAnyTypeInt, kLiteRtLogSeveritySilent}}};
  return Get<LiteRtEnvironment>("LiteRT does not start", LiteRtCreateEnvironment, 2, options);
}

}  // namespace

std::string Tensor::Describe() const {
  const auto element = Elements().find(type.element_type);
  std::string text = name + ": ";
  text += element == Elements().end() ? "type " + std::to_string(type.element_type)
                                      : element->second.name;
  text += " [";
  for (unsigned i = 0; i < type.layout.rank; ++i) {
    text += (i ? ", " : "") + std::to_string(type.layout.dimensions[i]);
  }
  return text + "]";
}

size_t Tensor::Size() const {
  const auto element = Elements().find(type.element_type);
  size_t size = element == Elements().end() ? 0 : element->second.size;
  for (unsigned i = 0; i < type.layout.rank; ++i) {
    const int32_t dimension = type.layout.dimensions[i];
    size = dimension < 0 ? 0 : size * size_t(dimension);
  }
  if (size == 0) {
    throw std::runtime_error("Inputs and outputs must be numbers of a fixed shape. Received: " +
                             Describe());
  }
  return size;
}

Model::Model(const std::string& path)
    : path_(path), content_(ReadFile(path)), environment_(CreateEnvironment()) {
  if (content_.size() < 8 || std::memcmp(&content_[4], "TFL3", 4) != 0) {
    throw std::runtime_error(path + " is not a .tflite file");
  }
  // LiteRtCreateModelFromFile does not check the file: it crashes on a truncated one.
  model_.reset(Get<LiteRtModel>(path + " is damaged", LiteRtCreateModelFromBuffer,
                                environment_.get(), content_.data(), content_.size()));
  const char failure[] = "The signatures cannot be read";
  const size_t count = Get<size_t>(failure, LiteRtGetNumModelSignatures, model_.get());
  for (size_t i = 0; i < count; ++i) {
    signatures_.push_back(
        ReadSignature(Get<LiteRtSignature>(failure, LiteRtGetModelSignature, model_.get(), i)));
  }
}

size_t Model::Find(const std::string& name) const {
  if (name.empty() && signatures_.size() == 1) return 0;
  std::string names;
  for (size_t i = 0; i < signatures_.size(); ++i) {
    if (signatures_[i].name == name) return i;
    names += (i ? ", " : "") + signatures_[i].name;
  }
  throw std::runtime_error("--signature must be one of: " + names +
                           ". Received: " + (name.empty() ? "none" : name));
}

Program::Program(const Model& model) : model_(model) {
  const Owned<LiteRtOptions, LiteRtDestroyOptions> options(
      Get<LiteRtOptions>("LiteRT does not start", LiteRtCreateOptions));
  Check(LiteRtSetOptionsHardwareAccelerators(options.get(), kLiteRtHwAcceleratorCpu),
        "LiteRT has no CPU kernels");
  compiled_.reset(Get<LiteRtCompiledModel>(model.path_ + " cannot run on this CPU",
                                           LiteRtCreateCompiledModel, model.environment_.get(),
                                           model.model_.get(), options.get()));
}

Session::Session(const Program& program, size_t signature)
    : index_(signature), signature_(program.model_.signatures_[signature]),
      compiled_(program.compiled_.get()) {
  for (const Tensor& tensor : signature_.outputs) tensor.Size();  // throws before the work
  LiteRtEnvironment environment = program.model_.environment_.get();
  const auto create = [&](const std::vector<Tensor>& tensors, auto requirements_of) {
    std::vector<Buffer> buffers;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const std::string failure = "No memory can be had for " + tensors[i].Describe();
      buffers.emplace_back(Get<LiteRtTensorBuffer>(
          failure, LiteRtCreateManagedTensorBufferFromRequirements, environment, &tensors[i].type,
          Get<LiteRtTensorBufferRequirements>(failure, requirements_of, compiled_, index_, i)));
    }
    return buffers;
  };
  inputs_ = create(signature_.inputs, LiteRtGetCompiledModelInputBufferRequirements);
  outputs_ = create(signature_.outputs, LiteRtGetCompiledModelOutputBufferRequirements);
}

void Session::Write(size_t input, const char* bytes) {
  const std::string failure = "Input " + signature_.inputs[input].name + " cannot be written";
  LiteRtTensorBuffer buffer = inputs_[input].get();
  void* address = Get<void*>(failure, [buffer](void** stored) {
    return LiteRtLockTensorBuffer(buffer, stored, kLiteRtTensorBufferLockModeWrite);
  });
  std::memcpy(address, bytes, signature_.inputs[input].Size());
  Check(LiteRtUnlockTensorBuffer(buffer), failure);
}

void Session::Run() {
  std::vector<LiteRtTensorBuffer> inputs, outputs;
  for (const Buffer& buffer : inputs_) inputs.push_back(buffer.get());
  for (const Buffer& buffer : outputs_) outputs.push_back(buffer.get());
  Check(LiteRtRunCompiledModel(compiled_, index_, inputs.size(), inputs.data(), outputs.size(),
                               outputs.data()),
        "Signature " + signature_.name + " fails to run");
}

std::vector<char> Session::Read(size_t output) const {
  const Tensor& tensor = signature_.outputs[output];
  const std::string failure = "Output " + tensor.name + " cannot be read";
  LiteRtTensorBuffer buffer = outputs_[output].get();
  void* address = Get<void*>(failure, [buffer](void** stored) {
    return LiteRtLockTensorBuffer(buffer, stored, kLiteRtTensorBufferLockModeRead);
  });
  const char* first = static_cast<const char*>(address);
  const std::vector<char> bytes(first, first + tensor.Size());
  Check(LiteRtUnlockTensorBuffer(buffer), failure);
  return bytes;
}
