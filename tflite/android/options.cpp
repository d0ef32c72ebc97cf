#include "options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

const char kUsage[] =
    R"(litert_runner MODEL.tflite [flags] runs a TFLite file on the CPU, as an Android app would.

  --list            only list the file's signatures, with their inputs and outputs
  --signature=NAME  which one to run; needed if there are several
  --input=SOURCE    random (float32 in [0, 1), always the same numbers), zeros, or a file of raw
                    values in the input's type; once for each input, in the order of --list.
                    Without it: random for all
  --warmup=N        untimed runs first (3)
  --runs=N          timed runs (10)
  --top=K           the K largest values of each output (5)

A file that trains (spfde_keras.export_trainable_tflite) does as an app does, with its signatures
restore, train, infer and save:

  --restore=FILE    start from a saved state
  --train=FOLDER    train on x.raw and y.raw there: samples and labels, in the file's types
  --epochs=N        how often (1), in the order of the files
  --rate=R          the learning rate (0.1)
  --test=FOLDER     infer x.raw there, and compare the largest outputs with y.raw: int32 classes
  --save=FILE       write the state
)";

namespace {

int ParseCount(const std::string& flag, const std::string& text, int least) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end || value < least) {
    throw std::invalid_argument(flag + " must be an integer of at least " + std::to_string(least) +
                                ". Received: " + text);
  }
  return value;
}

float ParseRate(const std::string& flag, const std::string& text) {
  char* end = nullptr;
  const float value = std::strtof(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= 0) || std::isinf(value)) {
    throw std::invalid_argument(flag + " must be a number of at least 0. Received: " + text);
  }
  return value;
}

bool Among(const std::string& flag, const std::vector<std::string>& flags) {
  return std::find(flags.begin(), flags.end(), flag) != flags.end();
}

std::string ParseText(const std::string& flag, const std::string& text) {
  if (text.empty()) {
    throw std::invalid_argument(flag + " must have a value, as in " + flag + "=...");
  }
  return text;
}

}  // namespace

Options ParseOptions(int count, char** arguments) {
  Options options;
  std::vector<std::string> running;   // flags that only a file that runs knows
  std::vector<std::string> training;  // and one that trains
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    const size_t equals = argument.find('=');
    const std::string flag = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (Among(flag, {"--list", "--signature", "--input", "--warmup", "--runs", "--top"})) {
      running.push_back(flag);
    } else if (Among(flag, {"--epochs", "--rate"})) {
      training.push_back(flag);
    }
    if (argument == "--help") {
      options.help = true;
    } else if (argument == "--list") {
      options.list = true;
    } else if (flag == "--signature") {
      options.signature = ParseText(flag, value);
    } else if (flag == "--input") {
      options.inputs.push_back(ParseText(flag, value));
    } else if (flag == "--warmup") {
      options.warmup = ParseCount(flag, value, 0);
    } else if (flag == "--runs") {
      options.runs = ParseCount(flag, value, 1);
    } else if (flag == "--top") {
      options.top = ParseCount(flag, value, 1);
    } else if (flag == "--restore") {
      options.restore = ParseText(flag, value);
    } else if (flag == "--train") {
      options.train = ParseText(flag, value);
    } else if (flag == "--test") {
      options.test = ParseText(flag, value);
    } else if (flag == "--save") {
      options.save = ParseText(flag, value);
    } else if (flag == "--epochs") {
      options.epochs = ParseCount(flag, value, 1);
    } else if (flag == "--rate") {
      options.rate = ParseRate(flag, value);
    } else if (argument.rfind("--", 0) == 0) {
      throw std::invalid_argument(argument + " is not a flag; see --help");
    } else if (!options.model.empty()) {
      throw std::invalid_argument("one .tflite file must be given. Received: " + options.model +
                                  ", " + argument);
    } else {
      options.model = argument;
    }
  }
  if (options.model.empty() && !options.help) {
    throw std::invalid_argument("one .tflite file must be given; see --help");
  }
  if (options.trains() && !running.empty()) {
    throw std::invalid_argument(running[0] +
                                " must be left out with --train, --test, --restore and --save, "
                                "which do not use it");
  }
  if (options.train.empty() && !training.empty()) {
    throw std::invalid_argument(training[0] + " must be left out without --train");
  }
  return options;
}
