#include "broker/http/state_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace sallyport::http {
namespace {

namespace fs = std::filesystem;

Error failed(const std::string& doing) {
  const int error = errno;
  return Error{Code::kUnavailable, Reason::kStorage,
               "cannot " + doing + ": " + std::generic_category().message(error), Next::kCallOperator,
               static_cast<std::uint64_t>(error)};
}

Error conflict(std::string what) {
  return Error{Code::kConflict, Reason::kConflict, std::move(what), Next::kCallOperator, 0};
}

fs::path mark_of(const fs::path& directory) {
  return directory / "standby";
}

bool is_there(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored);
}

// sync_directory makes what was created or removed in it durable.
Status sync_directory(const fs::path& directory) {
  const Descriptor at{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!at.is_open() || ::fsync(at.get()) != 0) return failed("sync " + directory.string());
  return Done{};
}

}  // namespace

Result<Descriptor> lock_state(const fs::path& directory) {
  const fs::path file = directory / "lock";
  Descriptor lock{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  if (!lock.is_open()) return failed("open " + file.string());
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) return conflict("another sallyportd uses " + directory.string());
  return failed("lock " + file.string());
}

Status require_room(const fs::path& directory, std::uint64_t room_bytes) {
  struct statvfs disk {};
  if (::statvfs(directory.c_str(), &disk) != 0) return failed("ask for the room of " + directory.string());
  const std::uint64_t left_bytes = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  if (left_bytes >= room_bytes) return Done{};
  return Error{Code::kUnavailable, Reason::kStorage,
               "the disk of " + directory.string() + " is full: " + std::to_string(left_bytes >> 10) +
                   " KiB are left, a start wants " + std::to_string(room_bytes >> 10) +
                   ". What to do: make room, and never by deleting something here. It starts when there is "
                   "room, by itself under its systemd unit",
               Next::kCallOperator, 0};
}

Status become_standby(const fs::path& directory) {
  if (is_there(mark_of(directory))) return Done{};
  if (is_there(directory / "log.db"))
    return conflict(directory.string() +
                    " holds the log of a broker that wrote it: a standby begins with an empty directory, and "
                    "fetches everything by itself");
  const Descriptor mark{::open(mark_of(directory).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
  if (!mark.is_open()) return failed("write " + mark_of(directory).string());
  return sync_directory(directory);
}

Status require_writer(const fs::path& directory) {
  if (!is_there(mark_of(directory))) return Done{};
  return conflict(directory.string() +
                  " is a standby's: another broker writes this log. When that one is gone for good: "
                  "sallyportd promote --state " +
                  directory.string());
}

Status promote(const fs::path& directory) {
  if (!is_there(mark_of(directory))) return conflict(directory.string() + " is no standby's");
  if (::unlink(mark_of(directory).c_str()) != 0) return failed("remove " + mark_of(directory).string());
  return sync_directory(directory);
}

}  // namespace sallyport::http
