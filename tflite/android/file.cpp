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
