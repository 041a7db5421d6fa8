#include "client/target/connections.h"

#include <poll.h>
#include <sys/types.h>

#include <algorithm>
#include <vector>

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgot to say so itself
}

namespace sallyport::gate {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kKillPatience{5'000};
constexpr milliseconds kLook{500};

Error not_held(const char* what) {
  return Error{Code::kUnavailable, Reason::kGateCgroup, what};
}

}  // namespace

struct Connections::Connection {
  SshdConnection sshd;
  std::string cgroup;  // "": none
  UnixMillis until;
  std::size_t channels = 0;             // guarded by mutex_
  steady_clock::time_point idle_since;  // guarded by mutex_; while there are no channels
};

Connections::Connections(std::optional<std::string> cgroups, std::function<UnixMillis()> clock,
                         milliseconds idle)
    : cgroups_(std::move(cgroups)), clock_(std::move(clock)), idle_(idle), watcher_([this] { watch(); }) {}

Connections::~Connections() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  changed_.notify_all();
  watcher_.join();
  for (const auto& [pid, connection] : connections_) end(*connection);
}

Result<Connections::Channel> Connections::enter(SshdConnection sshd, pid_t client, UnixMillis until) {
  const pid_t pid = sshd.pid();
  Descriptor client_handle{::pidfd_open(client, 0)};
  if (!client_handle.is_open()) return Error{Code::kDenied, "the client is gone"};
  const std::lock_guard lock{mutex_};
  auto at = connections_.find(pid);
  if (at != connections_.end() && at->second->sshd.has_ended()) {  // the id was another connection's
    end(*at->second);
    connections_.erase(at);
    at = connections_.end();
  }
  const bool first = at == connections_.end();
  const std::string number = std::to_string(++made_);
  std::string client_cgroup;
  auto connection =
      first ? std::make_shared<Connection>(Connection{std::move(sshd), {}, until, 0, {}}) : at->second;
  if (cgroups_) {
    if (first) {
      const auto made = make_cgroup(*cgroups_, "connection-" + number);
      if (!made) return not_held("no cgroup can be made for the connection");
      connection->cgroup = *made;
      if (!enter_cgroup(*made, pid)) {
        (void)end_cgroup(*made, milliseconds{0});
        return not_held("sshd's process cannot be moved to its cgroup");
      }
    }
    const auto made = make_cgroup(*cgroups_, "client-" + number);
    if (!made || !enter_cgroup(*made, client)) {
      if (made) (void)end_cgroup(*made, milliseconds{0});
      if (first) end(*connection);
      return not_held("the client cannot be moved to a cgroup of its own");
    }
    client_cgroup = *made;
  }
  connections_.insert_or_assign(pid, connection);
  connection->until = std::max(connection->until, until);
  ++connection->channels;
  Channel channel{*this, connection, std::move(client_handle), std::move(client_cgroup)};
  // It was this process that was moved, as long as it still is this connection's child.
  const auto facts = find_process(client);
  if (!facts || facts->parent != pid) {
    --connection->channels;
    channel.connection_.reset();
    if (!channel.cgroup_.empty()) (void)end_cgroup(channel.cgroup_, kKillPatience);
    return Error{Code::kDenied, "the client is gone"};
  }
  return channel;
}

void Connections::end(Connection& connection) {
  // The id of a process that has ended may be a stranger's by now.
  if (connection.cgroup.empty() && !connection.sshd.has_ended())
    kill_below(connection.sshd.pid(), milliseconds{500});
  connection.sshd.end();
  if (!connection.cgroup.empty()) (void)end_cgroup(connection.cgroup, kKillPatience);
}

// watch ends the connections that have no channel any more, when their time has come.
void Connections::watch() {
  std::unique_lock lock{mutex_};
  while (!stopping_) {
    std::vector<std::shared_ptr<Connection>> over;
    for (auto at = connections_.begin(); at != connections_.end();) {
      const Connection& one = *at->second;
      const bool ends = one.channels == 0 && (one.sshd.has_ended() || clock_() >= one.until ||
                                              steady_clock::now() >= one.idle_since + idle_);
      if (ends) over.push_back(at->second);
      at = ends ? connections_.erase(at) : std::next(at);
    }
    if (over.empty()) {
      changed_.wait_for(lock, kLook);
      continue;
    }
    lock.unlock();
    for (const auto& connection : over) end(*connection);
    lock.lock();
  }
}

int Connections::Channel::poll_fd() const {
  return connection_->sshd.poll_fd();
}

void Connections::Channel::wait_for_client(milliseconds patience) const {
  pollfd one{client_.get(), POLLIN, 0};
  ::poll(&one, 1, static_cast<int>(patience.count()));
}

void Connections::Channel::leave(bool stays) {
  if (!connection_) return;
  const auto connection = std::move(connection_);
  if (!cgroup_.empty()) (void)end_cgroup(cgroup_, kKillPatience);
  bool ends = false;
  {
    const std::lock_guard lock{all_->mutex_};
    --connection->channels;
    connection->idle_since = steady_clock::now();
    const auto at = all_->connections_.find(connection->sshd.pid());
    // Whoever takes it out of the map ends it.
    if (!stays && at != all_->connections_.end() && at->second == connection) {
      all_->connections_.erase(at);
      ends = true;
    }
  }
  if (ends) all_->end(*connection);
}

Connections::Channel::~Channel() {
  leave(false);
}

}  // namespace sallyport::gate
