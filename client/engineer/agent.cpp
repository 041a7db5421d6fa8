#include "client/engineer/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <thread>

#include "attestation/crypto/digest.h"
#include "client/engineer/agent_protocol.h"

namespace sallyport::client::engineer {
namespace {

constexpr std::uint32_t kLeaseSeconds = 10;
constexpr std::uint64_t kLeaseOnTheWay = 1'000;  // ms for its signature: no lease outlives its grant
// An IMA measurement in between kills a policy session, and a lease that a broker on its way up gave late is
// over: begin again.
constexpr int kTries = 4;

// lease_seconds is how long a lease may be good for: near the grant's end less, and never nothing.
std::uint32_t lease_seconds(UnixMillis grant_ends, UnixMillis at) {
  const std::uint64_t spent = at.get() + kLeaseOnTheWay;
  const std::uint64_t left_s = grant_ends.get() > spent ? (grant_ends.get() - spent) / 1000 : 0;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(left_s, 1, kLeaseSeconds));
}

// An agent's directory is locked by its process, so what a killed one left behind is known by its free lock.
constexpr std::string_view kDirectoryPrefix = "sallyport-agent-";
constexpr const char* kSocketName = "/agent";

// lock_directory gives a descriptor that holds the lock, or -1: another process has it, or it is not ours.
int lock_directory(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  struct stat opened = {};
  struct stat named = {};
  if (fd >= 0 && fstat(fd, &opened) == 0 && opened.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
      lstat(directory.c_str(), &named) == 0 && named.st_dev == opened.st_dev && named.st_ino == opened.st_ino)
    return fd;
  if (fd >= 0) close(fd);
  return -1;
}

void remove_left_behind(const std::filesystem::path& base) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator{base, ignored}) {
    const std::string directory = entry.path().string();
    if (!entry.path().filename().string().starts_with(kDirectoryPrefix)) continue;
    const int lock = lock_directory(directory);
    if (lock < 0) continue;
    std::filesystem::remove_all(directory, ignored);
    close(lock);
  }
}

struct Peer {
  int fd;
  AgentConnection connection;
};

}  // namespace

struct Agent::Impl {
  Opened& opened;
  const Access& access;
  std::string directory, socket;
  int held = -1, listener = -1, wake = -1;
  std::thread thread;
  mutable std::mutex mutex;
  std::optional<Error> last_error;  // guarded by mutex

  AgentKey key;

  Impl(Opened& o, const Access& a) : opened(o), access(a) {
    key.certificate = access.certificate;
    key.host = access.grant.host;
    key.host_keys = access.grant.host_keys;
    key.allows = [this](const credentials::SshLogin& login) {
      return credentials::verify_ssh_login(login, access.grant, access.certificate);
    };
    key.sign = [this](ByteView content) { return sign(content); };
  }
  ~Impl() {
    if (listener >= 0) close(listener);
    if (wake >= 0) close(wake);
    std::error_code ignored;
    if (!directory.empty()) std::filesystem::remove_all(directory, ignored);
    if (held >= 0) close(held);
  }

  Status listen_in_private() {
    const std::filesystem::path base = std::filesystem::temp_directory_path();
    remove_left_behind(base);
    // Whoever clears away at this moment may take it between its making and its lock: then another one is
    // made.
    for (int attempt = 0; attempt < kTries && held < 0; ++attempt) {
      std::string pattern = (base / (std::string{kDirectoryPrefix} + "XXXXXX")).string();
      if (mkdtemp(pattern.data()) == nullptr) break;
      directory = pattern;
      held = lock_directory(directory);
    }
    if (held < 0) return Error{Code::kInternal, "cannot make a private directory for the agent"};
    socket = directory + kSocketName;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket.size() >= sizeof address.sun_path)
      return Error{Code::kInternal, "the agent's path is too long"};
    std::memcpy(address.sun_path, socket.c_str(), socket.size() + 1);
    listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    wake = eventfd(0, EFD_CLOEXEC);
    if (listener < 0 || wake < 0 ||
        bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        chmod(socket.c_str(), 0600) != 0 || listen(listener, 8) != 0)
      return Error{Code::kInternal, "cannot listen for the agent"};
    return Done{};
  }

  Result<crypto::Signature64> sign(ByteView content) {
    for (int attempt = 1;; ++attempt) {
      auto signature = sign_once(content);
      if (signature.has_value()) return signature;
      const Reason why = signature.error().reason;
      if ((why != Reason::kTpmPcrChanged && why != Reason::kLeaseExpired) || attempt == kTries)
        return signature;
    }
  }

  Result<crypto::Signature64> sign_once(ByteView content) {
    tpm::Tpm& tpm = *opened.tpm;
    SP_TRY(tpm::LeaseSession session, tpm.begin_lease());
    api::LeaseAsk ask;
    ask.content = to_bytes(content);
    ask.expiration_s = lease_seconds(access.grant.not_after, now());
    ask.nonce_tpm = to_bytes(ByteView{session.nonce_tpm()});
    SP_TRY(const api::Leased leased, opened.session->lease(access.grant.case_id, ask));
    const tpm::Lease lease{static_cast<std::uint32_t>(leased.expiration_s), leased.signature};
    return tpm.sign_with_lease(std::move(session), access.key, lease, crypto::sha256(content));
  }

  // serve reads what is there; false when the connection is over.
  bool serve(Peer& peer) {
    std::uint8_t chunk[16384];
    const ssize_t got = read(peer.fd, chunk, sizeof chunk);
    if (got <= 0) return false;
    const bool goes_on = peer.connection.take({chunk, static_cast<std::size_t>(got)}, [&](ByteView reply) {
      return send(peer.fd, reply.data(), reply.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(reply.size());
    });
    if (peer.connection.refused()) {
      const std::lock_guard lock{mutex};
      last_error = peer.connection.refused();
    }
    return goes_on;
  }

  void run() {
    std::list<Peer> peers;
    for (;;) {
      std::vector<pollfd> fds{{wake, POLLIN, 0}, {listener, POLLIN, 0}};
      for (const Peer& peer : peers) fds.push_back({peer.fd, POLLIN, 0});
      if (poll(fds.data(), fds.size(), -1) < 0) continue;
      if (fds[0].revents != 0) break;
      std::size_t at = 2;
      for (auto peer = peers.begin(); peer != peers.end(); ++at) {
        if (fds[at].revents != 0 && !serve(*peer)) {
          close(peer->fd);
          peer = peers.erase(peer);
        } else {
          ++peer;
        }
      }
      if (fds[1].revents != 0) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd >= 0) peers.push_back({fd, AgentConnection{key}});
      }
    }
    for (const Peer& peer : peers) close(peer.fd);
  }
};

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Agent::~Agent() {
  stop();
}

Result<std::unique_ptr<Agent>> Agent::start(Opened& opened, const Access& access) {
  auto impl = std::make_unique<Impl>(opened, access);
  SP_CHECK(impl->listen_in_private());
  impl->thread = std::thread{[i = impl.get()] { i->run(); }};
  return std::unique_ptr<Agent>{new Agent{std::move(impl)}};
}

const std::string& Agent::socket() const {
  return impl_->socket;
}
const std::string& Agent::directory() const {
  return impl_->directory;
}
std::optional<Error> Agent::last_error() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->last_error;
}

void Agent::stop() {
  if (!impl_->thread.joinable()) return;
  const std::uint64_t one = 1;
  if (write(impl_->wake, &one, sizeof one) != sizeof one) return;
  impl_->thread.join();
}

}  // namespace sallyport::client::engineer
