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
};

// Throws std::invalid_argument with one line that names the flag and its rule.
Options ParseOptions(int count, char** arguments);

#endif  // SPFDE_TFLITE_ANDROID_OPTIONS_H_
