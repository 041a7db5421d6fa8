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

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/ssh_key.h"
#include "broker/credentials/ssh_certificate.h"
#include "broker/credentials/ssh_login.h"

namespace sallyport::client::engineer {
namespace {

// draft-miller-ssh-agent §6.1.
constexpr std::uint8_t kFailure = 5, kSuccess = 6, kRequestIdentities = 11, kIdentitiesAnswer = 12,
                       kSignRequest = 13, kSignResponse = 14, kExtension = 27;
constexpr std::string_view kSessionBind = "session-bind@openssh.com";
constexpr std::size_t kMaxMessageBytes = 256u << 10;
constexpr std::uint32_t kLeaseSeconds = 10;
constexpr std::uint64_t kLeaseOnTheWay = 1'000;  // ms for its signature: no lease outlives its grant
// An IMA measurement in between kills a policy session, and a lease that a broker on its way up gave late is
// over: begin again.
constexpr int kTries = 4;

// verify_host_bind checks the host's signature over the session id (Ed25519 or ECDSA P-256; OpenSSH
// PROTOCOL.agent §1).
Status verify_host_bind(const crypto::PublicKey& key, ByteView session_id, ByteView signature_blob) {
  if (key.algorithm() == crypto::KeyAlgorithm::kP256) {
    SP_TRY(const crypto::Signature64 signature, crypto::parse_ssh_signature_blob(signature_blob));
    return crypto::verify_p256(key, crypto::sha256(session_id), signature);
  }
  Reader in{signature_blob};
  SP_TRY(const ByteView name, in.prefixed32(64));
  if (as_text(name) != "ssh-ed25519") return Error{Code::kMalformed, "a host signature of another algorithm"};
  SP_TRY(const ByteView raw, in.prefixed32(64));
  SP_CHECK(in.finish());
  if (raw.size() != 64) return Error{Code::kMalformed, "a host signature of another size"};
  crypto::Signature64 signature;
  std::copy(raw.begin(), raw.end(), signature.begin());
  return crypto::verify_ed25519(key, session_id, signature);
}

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
    unlink((directory + kSocketName).c_str());
    rmdir(directory.c_str());
    close(lock);
  }
}

struct Peer {
  int fd = -1;
  Bytes buffer;
  std::optional<Bytes> session_id, host_key;  // once bound
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

  Impl(Opened& o, const Access& a) : opened(o), access(a) {}
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

  Result<Bytes> bind_session(Peer& peer, Reader& in) {
    SP_TRY(const ByteView host_key, in.prefixed32(1024));
    SP_TRY(const ByteView session_id, in.prefixed32(64));
    SP_TRY(const ByteView signature, in.prefixed32(1024));
    SP_TRY(const std::uint8_t forwarding, in.u8());
    SP_CHECK(in.finish());
    if (forwarding != 0) return Error{Code::kDenied, Reason::kLeaseContent, "the agent is not forwarded"};
    if (peer.session_id)
      return Error{Code::kDenied, Reason::kLeaseContent, "the connection is bound already"};
    SP_TRY(const crypto::PublicKey key, crypto::parse_ssh_key_blob(host_key));
    SP_CHECK(verify_host_bind(key, session_id, signature));
    const std::string fingerprint = crypto::ssh_fingerprint(host_key);
    const auto& allowed = access.grant.host_keys;
    if (std::find(allowed.begin(), allowed.end(), fingerprint) == allowed.end())
      return Error{Code::kUnverified, Reason::kLeaseHost,
                   fingerprint + " is no host key of " + access.grant.host};
    peer.session_id = to_bytes(session_id);
    peer.host_key = to_bytes(host_key);
    return Bytes{kSuccess};
  }

  Result<Bytes> sign(const Peer& peer, Reader& in) {
    SP_TRY(const ByteView key_blob, in.prefixed32(credentials::kMaxSshCertificateBytes));
    SP_TRY(const ByteView content, in.prefixed32(128u << 10));
    SP_TRY(const std::uint32_t flags, in.u32());
    SP_CHECK(in.finish());
    if (!equal(key_blob, access.certificate) || flags != 0)
      return Error{Code::kDenied, Reason::kLeaseContent, "the agent has one key, the session's certificate"};
    SP_TRY(const auto login, credentials::parse_ssh_login(content));
    SP_CHECK(credentials::verify_ssh_login(login, access.grant, access.certificate));
    if (!peer.session_id || login.session_id != *peer.session_id || login.host_key != *peer.host_key)
      return Error{Code::kDenied, Reason::kLeaseContent,
                   "the login is not of the connection that was bound to a host"};

    for (int attempt = 1;; ++attempt) {
      auto signature = sign_once(content);
      if (signature.has_value())
        return std::move(Writer{}.u8(kSignResponse).prefixed32(crypto::ssh_signature_blob(*signature)))
            .take();
      const Reason why = signature.error().reason;
      if ((why != Reason::kTpmPcrChanged && why != Reason::kLeaseExpired) || attempt == kTries)
        return std::move(signature).error();
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

  Result<Bytes> answer(Peer& peer, ByteView message) {
    Reader in{message};
    SP_TRY(const std::uint8_t type, in.u8());
    if (type == kRequestIdentities) {
      SP_CHECK(in.finish());
      return std::move(
                 Writer{}.u8(kIdentitiesAnswer).u32(1).prefixed32(access.certificate).prefixed32("sallyport"))
          .take();
    }
    if (type == kSignRequest) return sign(peer, in);
    if (type == kExtension) {
      SP_TRY(const ByteView name, in.prefixed32(128));
      if (as_text(name) == kSessionBind) return bind_session(peer, in);
    }
    return Error{Code::kMalformed, "the agent does not do this"};
  }

  // serve reads what is there; false when the connection is over.
  bool serve(Peer& peer) {
    std::uint8_t chunk[16384];
    const ssize_t got = read(peer.fd, chunk, sizeof chunk);
    if (got <= 0) return false;
    peer.buffer.insert(peer.buffer.end(), chunk, chunk + got);
    for (;;) {
      Reader in{peer.buffer};
      const auto size = in.u32();
      if (!size.has_value()) return true;
      if (*size == 0 || *size > kMaxMessageBytes) return false;
      const auto message = in.raw(*size);
      if (!message.has_value()) return true;
      auto reply = answer(peer, *message);
      if (!reply.has_value()) {
        const std::lock_guard lock{mutex};
        // Extensions that we do not know are no failure of a login.
        if (reply.error().code != Code::kMalformed || (*message)[0] == kSignRequest)
          last_error = reply.error();
      }
      const Bytes framed =
          std::move(Writer{}.prefixed32(reply.has_value() ? ByteView{*reply} : ByteView{&kFailure, 1}))
              .take();
      if (send(peer.fd, framed.data(), framed.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(framed.size()))
        return false;
      peer.buffer.erase(peer.buffer.begin(), peer.buffer.begin() + 4 + static_cast<std::ptrdiff_t>(*size));
    }
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
        if (fd >= 0) peers.push_back({fd, {}, {}, {}});
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
