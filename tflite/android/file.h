#ifndef SPFDE_TFLITE_ANDROID_FILE_H_
#define SPFDE_TFLITE_ANDROID_FILE_H_

#include <string>
#include <vector>

// The content of a file. Throws std::runtime_error with one line if it cannot be read.
std::vector<char> ReadFile(const std::string& path);

#endif  // SPFDE_TFLITE_ANDROID_FILE_H_
