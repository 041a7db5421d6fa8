#include "attestation/program/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iostream>
#include <iterator>
#include <system_error>

#include "attestation/program/descriptor.h"

namespace sallyport::program {
namespace {

namespace fs = std::filesystem;

Error storage_failed(const std::string& doing) {
  const int error = errno;
  return Error{Code::kUnavailable, Reason::kStorage,
               "cannot " + doing + ": " + std::generic_category().message(error), Next::kCallOperator,
               static_cast<std::uint64_t>(error)};
}

Error refused(const fs::path& file, const char* why) {
  return Error{Code::kDenied, Reason::kStorage, file.string() + " " + why, Next::kCallOperator, 0};
}

}  // namespace

Result<Bytes> read_whole(const std::filesystem::path& file, std::string otherwise) {
  std::ifstream in{file, std::ios::binary};
  if (!in)
    return Error{Code::kMalformed, Reason::kUsage,
                 otherwise.empty() ? "cannot open " + file.string() : std::move(otherwise)};
  return Bytes{std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
}

Result<SecretBytes> read_secret_file(const fs::path& file, std::size_t max_bytes) {
  const Descriptor in{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
  struct stat found {};
  if (in.get() < 0 || ::fstat(in.get(), &found) != 0) return storage_failed("open " + file.string());
  if (!S_ISREG(found.st_mode)) return refused(file, "is not a regular file");
  if (found.st_uid != ::geteuid() && found.st_uid != 0) return refused(file, "belongs to another user");
  const bool roots = found.st_uid == 0 && ::geteuid() != 0;
  if ((found.st_mode & (roots ? 037 : 077)) != 0) return refused(file, "is open to others; chmod 600 it");
  SecretBytes whole{max_bytes + 1};
  std::size_t size = 0;
  while (size < whole.size()) {
    const ssize_t got = ::read(in.get(), whole.expose().data() + size, whole.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return storage_failed("read " + file.string());
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > max_bytes) return Error{Code::kMalformed, file.string() + " is too long for a key"};
  return SecretBytes{ByteView{whole.expose()}.first(size)};
}

Status make_state_directory(const fs::path& directory) {
  std::error_code error;
  const fs::path parent = directory.parent_path();
  if (!parent.empty() && !fs::exists(parent, error)) fs::create_directories(parent, error);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return storage_failed("make " + directory.string());
  return open_state_directory(directory);
}

Status open_state_directory(const fs::path& directory) {
  const Descriptor at{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  struct stat found {};
  if (at.get() < 0 || ::fstat(at.get(), &found) != 0) return storage_failed("open " + directory.string());
  if (found.st_uid != ::geteuid() && found.st_uid != 0) return refused(directory, "belongs to another user");
  if ((found.st_mode & 022) != 0)
    return refused(directory,
                   "can be written by others, who may have changed what is in it; look, then chmod 700 it");
  if ((found.st_mode & 055) == 0) return Done{};
  if (::fchmod(at.get(), 0700) != 0) return storage_failed("chmod " + directory.string());
  std::cerr << "others could look into " << directory.string() << "; it is closed to them now (mode 0700)\n";
  return Done{};
}

Status write_port_file(const std::filesystem::path& file, std::uint16_t port) {
  const std::filesystem::path fresh = file.string() + ".new";
  std::ofstream out{fresh, std::ios::trunc};
  out << port << '\n';
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(fresh, file, error);
  if (!out || error) return Error{Code::kUnavailable, Reason::kStorage, "cannot write " + file.string()};
  return Done{};
}

}  // namespace sallyport::program
