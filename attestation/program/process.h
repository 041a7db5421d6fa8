#pragma once

#include <signal.h>

#include <cstddef>

#include "attestation/base/result.h"

namespace sallyport::program {

// Hardening is what a program asks of harden. The defaults are for services and ceremonies.
struct Hardening {
  // OpenSSL takes its ephemeral TLS keys and the state of its random generators, two a thread, from the
  // secure heap, and fails when it is full: a service with hundreds of threads needs megabytes.
  std::size_t secure_heap_bytes = 4u << 20;
  // Go on where memory cannot be locked. For a person's client alone: its one secret is a PIN, of no use
  // without the token, held while a command runs; and one that does not start in a container cannot deny or
  // revoke.
  bool may_swap = false;
  // Files are made for this user alone (umask 077). A person's client leaves that to the person.
  bool private_files = true;
};

// harden protects what is secret in this process: before the first secret is read and before threads start;
// again is harmless.
//   Proves: there is no core file (RLIMIT_CORE 0, soft and hard), no debugger of the same user and nothing of
//           ours in /proc for it (PR_SET_DUMPABLE 0); SecretBytes and OpenSSL's private keys are in memory
//           that is never swapped out, unless it may be.
//   Errors: kUnavailable/kUnprotected, with what to do about it.
Status harden(const Hardening& wanted = {});

// ignore_broken_pipes makes writing to a peer that has gone an error, and not the end of this program.
void ignore_broken_pipes();

// fit_connections raises the limit of open files as far as it may be raised, and gives how many connections
// fit into it, of `wanted`, that each cost `each` descriptors, beside `own` that the program needs for
// itself: so that peers who connect never cost it a database, a keyguard or a witness.
//   Errors: kUnavailable/kUnprotected, when not one fits, with what to do about it.
Result<std::size_t> fit_connections(std::size_t wanted, std::size_t each, std::size_t own);

// EndingSignals takes SIGTERM and SIGINT for a program that serves until it is told to end. Made by the main
// thread before any other starts: they inherit that these signals are blocked. Broken pipes are ignored too.
class EndingSignals {
 public:
  EndingSignals();

  // wait tells systemd that the program is ready, waits for one of them, and tells that it is ending.
  void wait();

 private:
  sigset_t signals_;
};

}  // namespace sallyport::program
