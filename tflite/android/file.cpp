#include "file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>

std::vector<char> ReadFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  std::vector<char> content;
  char block[1 << 16];
  while (file) {
    const size_t count = std::fread(block, 1, sizeof(block), file.get());
    content.insert(content.end(), block, block + count);
    if (count < sizeof(block)) break;
  }
  // A folder opens, and then cannot be read.
  if (!file || std::ferror(file.get())) {
    throw std::runtime_error(path + " cannot be read: " + std::strerror(errno));
  }
  return content;
}

void CheckWritable(const std::string& path) {
  const std::string beside = path + ".new";
  std::FILE* file = std::fopen(beside.c_str(), "wb");
  if (!file) throw std::runtime_error(path + " cannot be written: " + std::strerror(errno));
  std::fclose(file);
  std::remove(beside.c_str());
}

void WriteFile(const std::string& path, const std::vector<char>& content) {
  const std::string beside = path + ".new";
  std::FILE* file = std::fopen(beside.c_str(), "wb");
  bool whole = file && std::fwrite(content.data(), 1, content.size(), file) == content.size();
  whole = file && std::fclose(file) == 0 && whole;
  if (!whole || std::rename(beside.c_str(), path.c_str()) != 0) {
    throw std::runtime_error(path + " cannot be written: " + std::strerror(errno));
  }
}
