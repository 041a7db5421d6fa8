#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attestation/base/result.h"
#include "attestation/program/descriptor.h"

namespace sallyport::gate {

// What /proc tells of a process, at one moment.
struct ProcessFacts {
  pid_t parent = 0;
  uid_t uid = 0;           // real
  std::string executable;  // absent programs end in " (deleted)"
};
std::optional<ProcessFacts> find_process(pid_t pid);

// descendants_of gives every process below `ancestor`, which is a subreaper, so that none gets away from it.
std::vector<pid_t> descendants_of(pid_t ancestor);

// kill_descendants kills every process below the caller, which must be a subreaper, and reaps them, until
// there are none. False: some were still there when `patience` was over.
bool kill_descendants(std::chrono::milliseconds patience);

// kill_below kills every process below `ancestor`, which need not be the caller, while `patience` lasts.
void kill_below(pid_t ancestor, std::chrono::milliseconds patience);

// CgroupBase is a directory of cgroups (v2) for one service: below the caller's own cgroup, named after the
// caller, and removed with it. What a service that died has left there is ended by the next one.
class CgroupBase {
 public:
  // make gives nothing when the caller can make no cgroups.
  static std::optional<CgroupBase> make();
  CgroupBase(CgroupBase&& other) noexcept : directory_(std::exchange(other.directory_, {})) {}
  CgroupBase& operator=(CgroupBase&& other) noexcept {
    directory_.swap(other.directory_);
    return *this;
  }
  ~CgroupBase();
  const std::string& directory() const { return directory_; }

 private:
  explicit CgroupBase(std::string directory) : directory_(std::move(directory)) {}
  std::string directory_;
};
std::optional<std::string> make_cgroup(const std::string& base, const std::string& name);
bool enter_cgroup(const std::string& directory, pid_t pid);
// end_cgroup kills all that is in it and below it, and removes it. False: something is left.
bool end_cgroup(const std::string& directory, std::chrono::milliseconds patience);

// SshdConnection is the process of sshd that serves one connection, held so that its id cannot come to mean
// another process.
class SshdConnection {
 public:
  // find_sshd_connection takes the parent of `client`.
  //   Proves:  the parent runs one of `programs` as `uid`, and, where that is not root, is itself the child
  //   of
  //            such a program run by root: a daemon that the account started for itself is none.
  //   Errors:  kDenied.
  static Result<SshdConnection> find(pid_t client, uid_t uid, const std::vector<std::string>& programs);
  // end ends the connection with all its channels.
  void end() const;
  int poll_fd() const { return handle_.get(); }  // readable once the process has ended
  bool has_ended() const;
  pid_t pid() const { return pid_; }

 private:
  SshdConnection(Descriptor handle, pid_t pid) : handle_(std::move(handle)), pid_(pid) {}
  Descriptor handle_;
  pid_t pid_;
};

}  // namespace sallyport::gate
