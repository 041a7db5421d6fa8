#include "client/witness/key_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace sallyport::witness {
namespace {

constexpr std::size_t kMaxKeyFileBytes = 4096;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

Error storage_failed(const std::string& doing, int error) {
  return Error{Code::kUnavailable, Reason::kStorage, doing + ": " + std::generic_category().message(error),
               Next::kCallOperator, static_cast<std::uint64_t>(error)};
}

Status write_all(int fd, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return storage_failed("write the key", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return Done{};
}

}  // namespace

Result<crypto::PrivateKey> create_key_file(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (file.get() < 0 && errno == EEXIST)
    return Error{Code::kConflict, Reason::kStorage, "a key is there already: " + path.string()};
  if (file.get() < 0) return storage_failed("create " + path.string(), errno);
  auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
  const SecretBytes pem = key.to_pem();
  SP_CHECK(write_all(file.get(), pem.expose()));
  if (::fsync(file.get()) != 0) return storage_failed("fsync the key", errno);
  const auto parent = path.has_parent_path() ? path.parent_path() : std::filesystem::path{"."};
  const Descriptor directory{::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.get() < 0 || ::fsync(directory.get()) != 0)
    return storage_failed("fsync the key's directory", errno);
  return key;
}

Result<crypto::PrivateKey> load_key_file(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.get() < 0) return storage_failed("open " + path.string(), errno);
  struct stat found {};
  if (::fstat(file.get(), &found) != 0) return storage_failed("stat " + path.string(), errno);
  const auto refused = [&path](const char* why) {
    return Error{Code::kDenied, Reason::kStorage, path.string() + ": " + why};
  };
  if (!S_ISREG(found.st_mode)) return refused("not a regular file");
  if (found.st_uid != ::geteuid() && found.st_uid != 0) return refused("belongs to another user");
  if ((found.st_mode & 077) != 0) return refused("open to group or others; mode 0600 is required");
  SecretBytes pem{kMaxKeyFileBytes};
  std::size_t size = 0;
  while (size < pem.size()) {
    const ssize_t got = ::read(file.get(), pem.expose().data() + size, pem.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return storage_failed("read " + path.string(), errno);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size == pem.size()) return Error{Code::kMalformed, path.string() + ": too long for a key"};
  SP_TRY(crypto::PrivateKey key, crypto::PrivateKey::parse_pem(ByteView{pem.expose()}.first(size)));
  if (key.public_key().algorithm() != crypto::KeyAlgorithm::kEd25519)
    return Error{Code::kMalformed, path.string() + ": a witness's key is Ed25519"};
  return key;
}

}  // namespace sallyport::witness
