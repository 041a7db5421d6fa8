#include "attestation/program/process.h"

#include <openssl/crypto.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include <cstddef>

namespace sallyport::program {
namespace {

// A page of locked memory is scarce (ulimit -l), and the keys and PINs of a program are few and small.
constexpr std::size_t kSecureHeapBytes = 1 << 16;
constexpr std::size_t kSmallestSecret = 32;

}  // namespace

Hardened harden() {
  Hardened done;
  const rlimit none{0, 0};
  // Both, whatever comes of the first.
  const bool no_core = ::setrlimit(RLIMIT_CORE, &none) == 0;
  const bool no_debugger = ::prctl(PR_SET_DUMPABLE, 0) == 0;
  done.undumpable = no_core && no_debugger;
  done.locked_memory = CRYPTO_secure_malloc_init(kSecureHeapBytes, kSmallestSecret) == 1;  // 2: not locked
  return done;
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
