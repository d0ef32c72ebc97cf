// What the command line asks for.
#ifndef SPFDE_TFLITE_ANDROID_OPTIONS_H_
#define SPFDE_TFLITE_ANDROID_OPTIONS_H_

#include <string>
#include <vector>

extern const char kUsage[];

struct Options {
  std::string model;
  bool list = false;
  bool help = false;
  std::string signature;            // empty: the file's only one
  std::vector<std::string> inputs;  // "zeros", "random" or a file, in the signature's order
  int warmup = 3;
  int runs = 10;
  int top = 5;

  // Of files that train.
  std::string train;    // folder of samples
  std::string test;     // folder of samples
  std::string restore;  // a file with a state
  std::string save;     // where to write one
  int epochs = 1;
  float rate = 0.1f;

  bool trains() const {
    return !(train.empty() && test.empty() && restore.empty() && save.empty());
  }
};

// Throws std::invalid_argument with one line that names the flag and its rule.
Options ParseOptions(int count, char** arguments);

#endif  // SPFDE_TFLITE_ANDROID_OPTIONS_H_
