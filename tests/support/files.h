#pragma once

#include <filesystem>
#include <string>

#include "attestation/base/bytes.h"

namespace sallyport::test {

// read_file reads a whole file or fails the test; paths are relative to the source tree, where tests run.
Bytes read_file(const std::filesystem::path& path);

// TemporaryDirectory is removed, with all that is in it, when the test ends.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace sallyport::test
