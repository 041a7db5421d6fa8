#include "client/witness/key_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "attestation/program/descriptor.h"
#include "attestation/program/files.h"

namespace sallyport::witness {
namespace {

constexpr std::size_t kMaxKeyFileBytes = 4096;

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
  SP_TRY(const SecretBytes pem, program::read_secret_file(path, kMaxKeyFileBytes));
  SP_TRY(crypto::PrivateKey key, crypto::PrivateKey::parse_pem(pem.expose()));
  if (key.public_key().algorithm() != crypto::KeyAlgorithm::kEd25519)
    return Error{Code::kMalformed, path.string() + ": a witness's key is Ed25519"};
  return key;
}

}  // namespace sallyport::witness
