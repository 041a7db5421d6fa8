#include "client/terminal/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "attestation/program/descriptor.h"

namespace sallyport::client {
namespace {

Error cannot(const char* what, const std::filesystem::path& path, Reason reason) {
  const Code code = reason == Reason::kFile ? Code::kMalformed : Code::kUnavailable;
  return Error{code, reason, std::string{what} + " " + path.string() + ": " + std::strerror(errno)};
}

}  // namespace

Status write_new_file(const std::filesystem::path& path, ByteView bytes) {
  const Descriptor file{open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (file.get() < 0) return cannot("cannot create", path, Reason::kFile);
  while (!bytes.empty()) {
    const ssize_t wrote = write(file.get(), bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return cannot("cannot write", path, Reason::kStorage);
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
  }
  if (fsync(file.get()) != 0 && errno != EINVAL && errno != EROFS)
    return cannot("cannot write", path, Reason::kStorage);
  return Done{};
}

Status replace_file(const std::filesystem::path& path, ByteView bytes) {
  std::filesystem::path fresh = path;
  fresh += ".new";
  unlink(fresh.c_str());  // of a run that was killed
  SP_CHECK(write_new_file(fresh, bytes));
  if (rename(fresh.c_str(), path.c_str()) != 0) return cannot("cannot replace", path, Reason::kStorage);
  const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : ".";
  const Descriptor directory{open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.get() < 0 || (fsync(directory.get()) != 0 && errno != EINVAL && errno != EROFS))
    return cannot("cannot write", path, Reason::kStorage);
  return Done{};
}

Result<Bytes> read_whole_file(const std::filesystem::path& path, std::size_t max_bytes) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat status {};
  if (file.get() < 0 || fstat(file.get(), &status) != 0) return cannot("cannot read", path, Reason::kFile);
  if (S_ISDIR(status.st_mode))
    return Error{Code::kMalformed, Reason::kFile, path.string() + " is a directory"};
  Bytes out;
  for (;;) {
    std::uint8_t chunk[16384];
    const ssize_t got = read(file.get(), chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return cannot("cannot read", path, Reason::kFile);
    if (got == 0) return out;
    if (out.size() + static_cast<std::size_t>(got) > max_bytes)
      return Error{Code::kMalformed, Reason::kFile,
                   path.string() + " is larger than " + std::to_string(max_bytes) + " bytes"};
    out.insert(out.end(), chunk, chunk + got);
  }
}

}  // namespace sallyport::client
