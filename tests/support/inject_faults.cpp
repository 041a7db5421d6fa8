// Preloaded into a program under test, it counts the calls that the program and its libraries make on files
// whose path holds SALLYPORT_TEST_FAULTS_IN, and at the one that the test chose it lets the call fail, before
// or after it was carried out, or kills the process. The test speaks to it through the file that
// SALLYPORT_TEST_FAULTS names (faults.h). So the program itself needs no way to be hurt.
#include "tests/support/faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace {

using sallyport::test::Blow;
using sallyport::test::FaultControl;
using sallyport::test::FileCall;

constexpr int kDescriptors = 1 << 16;
std::atomic<bool> watched[kDescriptors];

FaultControl& control() {
  static FaultControl* const mapped = [] {
    const char* const name = std::getenv("SALLYPORT_TEST_FAULTS");
    const long file = name == nullptr ? -1 : ::syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC);
    if (file < 0) ::_exit(126);
    const long at =
        ::syscall(SYS_mmap, nullptr, sizeof(FaultControl), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::syscall(SYS_close, file);
    if (at == -1) ::_exit(126);
    return reinterpret_cast<FaultControl*>(at);
  }();
  return *mapped;
}

bool is_ours(const char* path) {
  static const char* const part = std::getenv("SALLYPORT_TEST_FAULTS_IN");
  return part != nullptr && path != nullptr && std::strstr(path, part) != nullptr;
}
bool is_ours(int fd) {
  return fd >= 0 && fd < kDescriptors && watched[fd].load(std::memory_order_relaxed);
}

Blow strike(FileCall call) {
  FaultControl& at = control();
  const auto bit = static_cast<std::uint32_t>(call);
  at.calls[__builtin_ctz(bit)].fetch_add(1);
  const auto blow = static_cast<Blow>(at.blow.load());
  if (blow == Blow::kNone || (at.mask.load() & bit) == 0) return Blow::kNone;
  std::uint64_t left = at.left.load();
  while (left != 0 &&
         !at.left.compare_exchange_weak(left, left == 1 && at.lasts.load() != 0 ? 1 : left - 1)) {
  }
  if (left != 1) return Blow::kNone;
  at.struck.fetch_add(1);
  return blow;
}

[[noreturn]] void die() {
  ::syscall(SYS_kill, ::getpid(), SIGKILL);
  for (;;) ::pause();
}

// struck makes the call, unless it is one that is to fail or be the last.
template <class Result, class Real>
Result struck(FileCall call, bool ours, Result failure, Real real) {
  if (!ours) return real();
  const Blow blow = strike(call);
  if (blow == Blow::kKill || blow == Blow::kKillTorn) die();
  if (blow == Blow::kNone) return real();
  if (blow != Blow::kFail) static_cast<void>(real());
  if (blow == Blow::kKillDone) die();
  errno = static_cast<int>(control().error.load());
  return failure;
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

int opened(long fd, bool ours) {
  if (fd >= 0 && fd < kDescriptors) watched[fd] = ours;
  return static_cast<int>(fd);
}

int open_at(int directory, const char* path, int flags, mode_t mode) {
  const bool ours = is_ours(path);
  if (!ours) return opened(::syscall(SYS_openat, directory, path, flags, mode), false);
  const bool creates = (flags & O_CREAT) != 0 && ::syscall(SYS_faccessat, directory, path, F_OK) != 0;
  const long fd = struck<long>(creates ? FileCall::kCreate : FileCall::kOpen, true, -1L, [&] {
    const long real = ::syscall(SYS_openat, directory, path, flags, mode);
    return real;
  });
  return opened(fd, true);
}

mode_t mode_of(int flags, va_list& rest) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
}

// torn writes half and dies, when that is what is to be.
template <class Half, class Real>
ssize_t write_some(int fd, Half half, Real real) {
  if (is_ours(fd) && static_cast<Blow>(control().blow.load()) == Blow::kKillTorn) {
    if (strike(FileCall::kWrite) == Blow::kNone) return real();
    static_cast<void>(half());
    die();
  }
  return struck<ssize_t>(FileCall::kWrite, is_ours(fd), -1, real);
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int directory, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(directory, path, flags, mode);
}
int openat64(int directory, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(directory, path, flags, mode);
}

// A stream's own reads go past us; those of C++ streams do not.
static FILE* open_stream(const char* name, const char* path, const char* mode) {
  const bool ours = is_ours(path);
  const bool creates = ours && mode[0] != 'r' && ::syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
  FILE* const file = struck<FILE*>(creates ? FileCall::kCreate : FileCall::kOpen, ours, nullptr, [&] {
    return next<FILE* (*)(const char*, const char*)>(name)(path, mode);
  });
  if (file != nullptr) opened(::fileno(file), ours);
  return file;
}
FILE* fopen(const char* path, const char* mode) {
  return open_stream("fopen", path, mode);
}
FILE* fopen64(const char* path, const char* mode) {
  return open_stream("fopen64", path, mode);
}

// What a stream has not written yet, its own close writes past us; a C++ stream has nothing left then.
int fclose(FILE* file) {
  const int fd = ::fileno(file);
  const bool ours = is_ours(fd);
  if (ours) watched[fd] = false;
  const Blow blow = ours ? strike(FileCall::kClose) : Blow::kNone;
  if (blow == Blow::kKill || blow == Blow::kKillTorn) die();
  const int closed = next<int (*)(FILE*)>("fclose")(file);
  if (blow == Blow::kKillDone) die();
  if (blow == Blow::kNone) return closed;
  errno = static_cast<int>(control().error.load());
  return EOF;
}

ssize_t read(int fd, void* to, size_t size) {
  return struck<ssize_t>(FileCall::kRead, is_ours(fd), -1, [&] { return ::syscall(SYS_read, fd, to, size); });
}
ssize_t pread64(int fd, void* to, size_t size, off64_t at) {
  return struck<ssize_t>(FileCall::kRead, is_ours(fd), -1,
                         [&] { return ::syscall(SYS_pread64, fd, to, size, at); });
}
ssize_t pread(int fd, void* to, size_t size, off_t at) {
  return pread64(fd, to, size, at);
}

ssize_t write(int fd, const void* from, size_t size) {
  return write_some(
      fd, [&] { return ::syscall(SYS_write, fd, from, size / 2); },
      [&] { return ::syscall(SYS_write, fd, from, size); });
}
ssize_t pwrite64(int fd, const void* from, size_t size, off64_t at) {
  return write_some(
      fd, [&] { return ::syscall(SYS_pwrite64, fd, from, size / 2, at); },
      [&] { return ::syscall(SYS_pwrite64, fd, from, size, at); });
}
ssize_t pwrite(int fd, const void* from, size_t size, off_t at) {
  return pwrite64(fd, from, size, at);
}
ssize_t writev(int fd, const struct iovec* parts, int count) {
  return write_some(
      fd, [&] { return ::syscall(SYS_writev, fd, parts, count / 2); },
      [&] { return ::syscall(SYS_writev, fd, parts, count); });
}

int fsync(int fd) {
  return struck<int>(FileCall::kSync, is_ours(fd), -1, [&] { return int(::syscall(SYS_fsync, fd)); });
}
int fdatasync(int fd) {
  return struck<int>(FileCall::kSync, is_ours(fd), -1, [&] { return int(::syscall(SYS_fdatasync, fd)); });
}
int syncfs(int fd) noexcept {
  return struck<int>(FileCall::kSync, is_ours(fd), -1, [&] { return int(::syscall(SYS_syncfs, fd)); });
}
int ftruncate64(int fd, off64_t size) noexcept {
  return struck<int>(FileCall::kTruncate, is_ours(fd), -1,
                     [&] { return int(::syscall(SYS_ftruncate, fd, size)); });
}
int ftruncate(int fd, off_t size) noexcept {
  return ftruncate64(fd, size);
}

int close(int fd) {
  const bool ours = is_ours(fd);
  if (ours) watched[fd] = false;
  // Linux closes the descriptor whatever it reports.
  if (ours && strike(FileCall::kClose) != Blow::kNone) {
    const auto blow = static_cast<Blow>(control().blow.load());
    if (blow == Blow::kKill || blow == Blow::kKillTorn) die();
    ::syscall(SYS_close, fd);
    if (blow == Blow::kKillDone) die();
    errno = static_cast<int>(control().error.load());
    return -1;
  }
  return int(::syscall(SYS_close, fd));
}

void* mmap64(void* at, size_t size, int protection, int flags, int fd, off64_t from) noexcept {
  return struck<void*>(FileCall::kMap, is_ours(fd), MAP_FAILED, [&] {
    return reinterpret_cast<void*>(::syscall(SYS_mmap, at, size, protection, flags, fd, from));
  });
}
void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t from) noexcept {
  return mmap64(at, size, protection, flags, fd, from);
}

int stat64(const char* path, struct stat64* out) noexcept {
  return struck<int>(FileCall::kStat, is_ours(path), -1,
                     [&] { return next<int (*)(const char*, struct stat64*)>("stat64")(path, out); });
}
int lstat64(const char* path, struct stat64* out) noexcept {
  return struck<int>(FileCall::kStat, is_ours(path), -1,
                     [&] { return next<int (*)(const char*, struct stat64*)>("lstat64")(path, out); });
}
int fstat64(int fd, struct stat64* out) noexcept {
  return struck<int>(FileCall::kStat, is_ours(fd), -1,
                     [&] { return next<int (*)(int, struct stat64*)>("fstat64")(fd, out); });
}
int stat(const char* path, struct stat* out) noexcept {
  return struck<int>(FileCall::kStat, is_ours(path), -1,
                     [&] { return next<int (*)(const char*, struct stat*)>("stat")(path, out); });
}
int lstat(const char* path, struct stat* out) noexcept {
  return struck<int>(FileCall::kStat, is_ours(path), -1,
                     [&] { return next<int (*)(const char*, struct stat*)>("lstat")(path, out); });
}
int fstat(int fd, struct stat* out) noexcept {
  return struck<int>(FileCall::kStat, is_ours(fd), -1,
                     [&] { return next<int (*)(int, struct stat*)>("fstat")(fd, out); });
}
int access(const char* path, int mode) noexcept {
  return struck<int>(FileCall::kStat, is_ours(path), -1,
                     [&] { return int(::syscall(SYS_faccessat, AT_FDCWD, path, mode)); });
}

// Only taking a lock can fail: Linux gives back each that it gave, on its own file systems.
static int control_file(const char* name, int fd, int command, void* argument) {
  const bool takes = (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK) && is_ours(fd) &&
                     static_cast<const struct flock*>(argument)->l_type != F_UNLCK;
  return struck<int>(FileCall::kLock, takes, -1,
                     [&] { return next<int (*)(int, int, void*)>(name)(fd, command, argument); });
}
int fcntl64(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  return control_file("fcntl64", fd, command, argument);
}

int flock(int fd, int operation) noexcept {
  return struck<int>(FileCall::kLock, is_ours(fd) && (operation & LOCK_UN) == 0, -1,
                     [&] { return int(::syscall(SYS_flock, fd, operation)); });
}

int rename(const char* from, const char* to) noexcept {
  return struck<int>(FileCall::kName, is_ours(to), -1,
                     [&] { return int(::syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to)); });
}
int unlink(const char* path) noexcept {
  return struck<int>(FileCall::kName, is_ours(path), -1,
                     [&] { return int(::syscall(SYS_unlinkat, AT_FDCWD, path, 0)); });
}
int remove(const char* path) noexcept {
  return struck<int>(FileCall::kName, is_ours(path), -1,
                     [&] { return next<int (*)(const char*)>("remove")(path); });
}
int mkdir(const char* path, mode_t mode) noexcept {
  return struck<int>(FileCall::kName, is_ours(path), -1,
                     [&] { return int(::syscall(SYS_mkdirat, AT_FDCWD, path, mode)); });
}

// SQLite checkpoints after a thousand pages, which no short test writes: under test after a few.
void* sqlite3_wal_hook(void* db, int (*hook)(void*, void*, const char*, int), void* with) {
  struct Wrapped {
    int (*hook)(void*, void*, const char*, int);
    void* with;
  };
  const auto shrunk = [](void* wrapped, void* on, const char* name, int pages) {
    const auto* const real = static_cast<Wrapped*>(wrapped);
    return real->hook(real->with, on, name, pages * 25);
  };
  using Set = void* (*)(void*, int (*)(void*, void*, const char*, int), void*);
  const Set real = next<Set>("sqlite3_wal_hook");
  if (hook == nullptr) return real(db, hook, with);
  return real(db, shrunk, new Wrapped{hook, with});  // as long as the process: there are few databases
}

}  // extern "C"
