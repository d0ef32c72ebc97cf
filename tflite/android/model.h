// A .tflite file, and its signatures ready to run on the CPU.
#ifndef SPFDE_TFLITE_ANDROID_MODEL_H_
#define SPFDE_TFLITE_ANDROID_MODEL_H_

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "litert_c.h"

// All functions here throw std::runtime_error with one line.

// Owns one of LiteRT's objects.
template <auto destroy>
struct Destroyer {
  template <typename T>
  void operator()(T* object) const {
    destroy(object);
  }
};
template <typename Handle, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer<destroy>>;

// An input or output of a signature.
struct Tensor {
  std::string name;
  LiteRtRankedTensorType type;

  bool is_float32() const { return type.element_type == kLiteRtElementTypeFloat32; }
  // Such as "image: float32 [1, 32, 32, 3]".
  std::string Describe() const;
  // In bytes.
  size_t Size() const;
};

struct Signature {
  std::string name;
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
};

class Model {
 public:
  explicit Model(const std::string& path);

  const std::vector<Signature>& signatures() const { return signatures_; }

  // The index of the signature called `name`; of the only one if `name` is empty.
  size_t Find(const std::string& name) const;

 private:
  friend class Program;
  friend class Session;
  std::string path_;
  std::vector<char> content_;  // model_ refers to it
  Owned<LiteRtEnvironment, LiteRtDestroyEnvironment> environment_;
  Owned<LiteRtModel, LiteRtDestroyModel> model_;
  std::vector<Signature> signatures_;
};

// A model ready to run: what its signatures store, such as weights that are trained, is here.
class Program {
 public:
  // `model` must outlive the program.
  explicit Program(const Model& model);

 private:
  friend class Session;
  const Model& model_;
  Owned<LiteRtCompiledModel, LiteRtDestroyCompiledModel> compiled_;
};

class Session {
 public:
  // `program` must outlive the session.
  Session(const Program& program, size_t signature);

  const Signature& signature() const { return signature_; }

  // `bytes` are as many as the tensor's Size().
  void Write(size_t input, const std::vector<char>& bytes) { Write(input, bytes.data()); }
  void Write(size_t input, const char* bytes);
  void Run();
  std::vector<char> Read(size_t output) const;

 private:
  using Buffer = Owned<LiteRtTensorBuffer, LiteRtDestroyTensorBuffer>;

  size_t index_;
  const Signature& signature_;
  LiteRtCompiledModel compiled_;
  std::vector<Buffer> inputs_;
  std::vector<Buffer> outputs_;
};

#endif  // SPFDE_TFLITE_ANDROID_MODEL_H_
