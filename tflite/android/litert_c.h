// The few functions of LiteRT's C interface that the runner calls: LiteRT's packages bring the
// library, libLiteRt.so, without headers.
//
// Source: litert/c/litert_{common,any,environment,environment_options,options,layout,model,
// model_types,compiled_model,tensor_buffer}.h of github.com/google-ai-edge/LiteRT, as LiteRT 2.3
// has them; the names are theirs. 2.1.6 and 2.2 agree in all of it; in 2.1.0
// LiteRtCreateModelFromBuffer takes no environment.
#ifndef SPFDE_TFLITE_ANDROID_LITERT_C_H_
#define SPFDE_TFLITE_ANDROID_LITERT_C_H_

#include <cstddef>
#include <cstdint>

extern "C" {

typedef struct LiteRtEnvironmentT* LiteRtEnvironment;
typedef struct LiteRtOptionsT* LiteRtOptions;
typedef struct LiteRtModelT* LiteRtModel;
typedef struct LiteRtSignatureT* LiteRtSignature;
typedef struct LiteRtTensorT* LiteRtTensor;
typedef struct LiteRtCompiledModelT* LiteRtCompiledModel;
typedef struct LiteRtTensorBufferRequirementsT* LiteRtTensorBufferRequirements;
typedef struct LiteRtTensorBufferT* LiteRtTensorBuffer;

// LiteRT's enumerations: C passes them as int.
typedef int32_t LiteRtStatus;
constexpr LiteRtStatus kLiteRtStatusOk = 0;
constexpr int32_t kLiteRtHwAcceleratorCpu = 1;
constexpr int32_t kLiteRtTensorBufferLockModeRead = 0;
constexpr int32_t kLiteRtTensorBufferLockModeWrite = 1;
constexpr int32_t kLiteRtElementTypeFloat32 = 1;
constexpr int32_t kLiteRtEnvOptionTagAutoRegisterAccelerators = 24;
constexpr int32_t kLiteRtEnvOptionTagMinLoggerSeverity = 25;
constexpr int32_t kLiteRtAnyTypeInt = 2;
constexpr int64_t kLiteRtLogSeveritySilent = 4;

typedef struct {
  int32_t tag;
  struct {
    int32_t type;
    int64_t int_value;
  } value;
} LiteRtEnvOption;
static_assert(sizeof(LiteRtEnvOption) == 24, "the size that LiteRT gives it");

typedef struct {
  unsigned int rank : 7;
  bool has_strides : 1;
  int32_t dimensions[8];  // negative where open
  uint32_t strides[8];
} LiteRtLayout;

typedef struct {
  int32_t element_type;
  LiteRtLayout layout;
} LiteRtRankedTensorType;
static_assert(sizeof(LiteRtRankedTensorType) == 72, "the size that LiteRT gives it");

LiteRtStatus LiteRtCreateEnvironment(int num_options, const LiteRtEnvOption* options,
                                     LiteRtEnvironment* environment);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);

LiteRtStatus LiteRtCreateOptions(LiteRtOptions* options);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int accelerators);
void LiteRtDestroyOptions(LiteRtOptions options);

LiteRtStatus LiteRtCreateModelFromBuffer(LiteRtEnvironment environment, const void* address,
                                         size_t size, LiteRtModel* model);
LiteRtStatus LiteRtGetNumModelSignatures(LiteRtModel model, size_t* num_signatures);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel model, size_t index, LiteRtSignature* signature);
void LiteRtDestroyModel(LiteRtModel model);

LiteRtStatus LiteRtGetSignatureKey(LiteRtSignature signature, const char** key);
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature signature, size_t* num_inputs);
LiteRtStatus LiteRtGetSignatureInputName(LiteRtSignature signature, size_t index,
                                         const char** name);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature signature, size_t index,
                                                  LiteRtTensor* tensor);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature signature, size_t* num_outputs);
LiteRtStatus LiteRtGetSignatureOutputName(LiteRtSignature signature, size_t index,
                                          const char** name);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature signature, size_t index,
                                                   LiteRtTensor* tensor);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor tensor, LiteRtRankedTensorType* type);

LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment environment, LiteRtModel model,
                                       LiteRtOptions options, LiteRtCompiledModel* compiled);
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(
    LiteRtCompiledModel compiled, size_t signature, size_t input,
    LiteRtTensorBufferRequirements* requirements);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(
    LiteRtCompiledModel compiled, size_t signature, size_t output,
    LiteRtTensorBufferRequirements* requirements);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel compiled, size_t signature,
                                    size_t num_inputs, LiteRtTensorBuffer* inputs,
                                    size_t num_outputs, LiteRtTensorBuffer* outputs);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel compiled);

LiteRtStatus LiteRtCreateManagedTensorBufferFromRequirements(
    LiteRtEnvironment environment, const LiteRtRankedTensorType* type,
    LiteRtTensorBufferRequirements requirements, LiteRtTensorBuffer* buffer);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer buffer, void** address, int32_t lock_mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer buffer);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);

}  // extern "C"

#endif  // SPFDE_TFLITE_ANDROID_LITERT_C_H_
