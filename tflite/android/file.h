#ifndef SPFDE_TFLITE_ANDROID_FILE_H_
#define SPFDE_TFLITE_ANDROID_FILE_H_

#include <string>
#include <vector>

// The content of a file. Throws std::runtime_error with one line if it cannot be read.
std::vector<char> ReadFile(const std::string& path);

// Throws likewise unless `WriteFile` could write there.
void CheckWritable(const std::string& path);

// Writes a file beside `path`, which it replaces once it is whole. Throws likewise.
void WriteFile(const std::string& path, const std::vector<char>& content);

#endif  // SPFDE_TFLITE_ANDROID_FILE_H_
