#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "attestation/base/strong.h"
#include "client/target/processes.h"

namespace sallyport::gate {

// How long a connection stays when none of its channels has a session any more: for sshd to send the last
// one's exit code, and for a client that opens the next one at once.
inline constexpr std::chrono::milliseconds kIdleConnection{10'000};

// Connections holds every connection of sshd that has, or had, a session: sshd's process that runs as the
// account, and each channel's thin client with all that might come of it. These run outside of the session's
// own cgroup, as the account; each connection and each client has a cgroup of its own, and none outlives its
// grant. Used by many threads.
class Connections {
 public:
  // `cgroups` is the directory to make cgroups in; nothing: processes are held by their ids alone.
  Connections(std::optional<std::string> cgroups, std::function<UnixMillis()> clock,
              std::chrono::milliseconds idle = kIdleConnection);
  ~Connections();  // ends all
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  struct Connection;
  // Channel is one channel's share of its connection: while there is one, it stays.
  class Channel {
   public:
    Channel(Channel&&) noexcept = default;
    Channel& operator=(Channel&&) = delete;
    ~Channel();           // as leave(false), if that was not said
    int poll_fd() const;  // readable once the connection has ended
    // wait_for_client waits until the client has ended by itself, `patience` at most.
    void wait_for_client(std::chrono::milliseconds patience) const;
    // leave ends the client with all that came of it, and the connection too unless `stays`: then it is ended
    // when it has been without a channel for long enough, or when the grant is over.
    void leave(bool stays);

   private:
    friend class Connections;
    Channel(Connections& all, std::shared_ptr<Connection> connection, Descriptor client, std::string cgroup)
        : all_(&all),
          connection_(std::move(connection)),
          client_(std::move(client)),
          cgroup_(std::move(cgroup)) {}
    Connections* all_;
    std::shared_ptr<Connection> connection_;
    Descriptor client_;   // a pidfd
    std::string cgroup_;  // the client's; "": none
  };

  // enter takes hold of `client` and of its connection until `until`, before the client gets anything.
  //   Errors: kGateCgroup (they cannot be moved), kDenied (the client is gone).
  Result<Channel> enter(SshdConnection sshd, pid_t client, UnixMillis until);

 private:
  void end(Connection& connection);
  void watch();

  const std::optional<std::string> cgroups_;
  const std::function<UnixMillis()> clock_;
  const std::chrono::milliseconds idle_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<pid_t, std::shared_ptr<Connection>> connections_;  // guarded by mutex_
  std::uint64_t made_ = 0;                                    // guarded by mutex_
  bool stopping_ = false;                                     // guarded by mutex_
  std::thread watcher_;
};

}  // namespace sallyport::gate
