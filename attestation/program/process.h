#pragma once

#include <signal.h>

namespace sallyport::program {

// Hardened tells what harden achieved; a program that must have it looks at both.
struct [[nodiscard]] Hardened {
  bool undumpable = false;     // no core file; no debugger of the same user, and nothing else of its in /proc
  bool locked_memory = false;  // SecretBytes are never swapped out (ulimit -l)
  bool all() const { return undumpable && locked_memory; }
};

// harden protects what is secret in this process. Before the first secret is read, and once.
Hardened harden();

// ignore_broken_pipes makes writing to a peer that has gone an error, and not the end of this program.
void ignore_broken_pipes();

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
