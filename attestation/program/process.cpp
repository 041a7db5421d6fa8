#include "attestation/program/process.h"

#include <openssl/crypto.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace sallyport::program {
namespace {

constexpr std::size_t kSmallestSecret = 32;

Error unprotected(std::string what) {
  return Error{Code::kUnavailable, Reason::kUnprotected, std::move(what), Next::kCallOperator,
               static_cast<std::uint64_t>(errno)};
}

}  // namespace

Status harden(const Hardening& wanted) {
  if (wanted.private_files) ::umask(077);
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return unprotected("core files cannot be switched off");
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) return unprotected("debuggers cannot be kept out");
  if (CRYPTO_secure_malloc_initialized() == 1) return Done{};
  // 2: there is a heap, but it is not locked.
  if (CRYPTO_secure_malloc_init(wanted.secure_heap_bytes, kSmallestSecret) == 1 || wanted.may_swap)
    return Done{};
  rlimit locked{};
  ::getrlimit(RLIMIT_MEMLOCK, &locked);
  return unprotected(
      "memory for secrets cannot be locked: " + std::to_string(wanted.secure_heap_bytes >> 10) +
      " KiB are needed, and the limit is " + std::to_string(locked.rlim_cur >> 10) +
      " KiB. Raise it: LimitMEMLOCK=8M in the systemd unit, or ulimit -l 8192");
}

Result<std::size_t> fit_connections(std::size_t wanted, std::size_t each, std::size_t own) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return unprotected("the limit of open files cannot be read");
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  ::getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < own + each)
    return unprotected("open files are limited to " + std::to_string(files.rlim_cur) + ", and " +
                       std::to_string(own + each) +
                       " are needed at least. Raise it: LimitNOFILE= in the systemd unit, or ulimit -n");
  return std::min<std::size_t>(wanted, (files.rlim_cur - own) / each);
}

void ignore_broken_pipes() {
  ::signal(SIGPIPE, SIG_IGN);
}

EndingSignals::EndingSignals() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  ignore_broken_pipes();
}

void EndingSignals::wait() {
  ::sd_notify(0, "READY=1");
  int received = 0;
  ::sigwait(&signals_, &received);
  ::sd_notify(0, "STOPPING=1");
}

}  // namespace sallyport::program
