#include "attestation/net/frames.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/program/descriptor.h"

namespace sallyport::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::size_t kLengthBytes = 4;

Error system_failed(const char* call, int error) {
  return Error{Code::kUnavailable, Reason::kPeer,
               std::string{call} + ": " + std::generic_category().message(error), Next::kReopenSession,
               static_cast<std::uint64_t>(error)};
}

// wait_for polls one descriptor until it is ready or the deadline is over.
Status wait_for(int fd, short events, Stream::Deadline deadline) {
  while (true) {
    const auto now = steady_clock::now();
    int timeout = -1;
    if (deadline != Stream::Deadline::max()) {
      if (now >= deadline)
        return Error{Code::kUnavailable, Reason::kPeerTimeout, "the other side was too slow",
                     Next::kReopenSession, 0};
      const auto left = std::chrono::ceil<milliseconds>(deadline - now).count();
      timeout = static_cast<int>(std::min<std::int64_t>(left, 3'600'000));
    }
    pollfd one{fd, events, 0};
    const int ready = ::poll(&one, 1, timeout);
    if (ready > 0) return Done{};  // errors and hang-ups show in the call that follows
    if (ready < 0 && errno != EINTR) return system_failed("poll", errno);
  }
}

class SocketStream final : public Stream {
 public:
  explicit SocketStream(Descriptor socket) : socket_(std::move(socket)) {}

  Result<std::size_t> read_some(std::span<std::uint8_t> into, Deadline deadline) override {
    while (true) {
      const ssize_t got = ::recv(socket_.get(), into.data(), into.size(), MSG_DONTWAIT);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno == ECONNRESET) return std::size_t{0};
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        SP_CHECK(wait_for(socket_.get(), POLLIN, deadline));
      } else if (errno != EINTR) {
        return system_failed("recv", errno);
      }
    }
  }

  Status write_all(ByteView bytes, Deadline deadline) override {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes = bytes.subspan(static_cast<std::size_t>(sent));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        SP_CHECK(wait_for(socket_.get(), POLLOUT, deadline));
      } else if (errno != EINTR) {
        return system_failed("send", errno);
      }
    }
    return Done{};
  }

  void shutdown_reading() override { ::shutdown(socket_.get(), SHUT_RD); }
  void shutdown() override { ::shutdown(socket_.get(), SHUT_RDWR); }
  int poll_fd() const override { return socket_.get(); }

 private:
  Descriptor socket_;
};

Result<sockaddr_un> unix_address(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string text = path.string();
  if (text.empty() || text.size() >= sizeof(address.sun_path) || text.find('\0') != std::string::npos)
    return Error{Code::kMalformed, "the path of a Unix socket has 1 to 107 bytes"};
  std::copy(text.begin(), text.end(), address.sun_path);
  return address;
}

Result<PeerCredentials> credentials_of(int socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return system_failed("getsockopt", errno);
  return PeerCredentials{credentials.uid, credentials.gid, credentials.pid};
}

Result<Descriptor> connect_descriptor(const std::filesystem::path& socket, milliseconds timeout) {
  SP_TRY(const sockaddr_un address, unix_address(socket));
  Descriptor fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (fd.get() < 0) return system_failed("socket", errno);
  const auto deadline = steady_clock::now() + timeout;
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return system_failed("connect", errno);
    // A full backlog: Linux tells no event for that, so ask again shortly.
    if (steady_clock::now() >= deadline)
      return Error{Code::kUnavailable, Reason::kPeerTimeout, "the socket's backlog stays full",
                   Next::kRetryLater, 0};
    ::poll(nullptr, 0, 5);
  }
  return fd;
}

}  // namespace

Bytes encode_frame(ByteView payload) {
  Writer out;
  out.prefixed32(payload);
  return std::move(out).take();
}

void FrameDecoder::feed(ByteView bytes) {
  if (used_ == buffer_.size()) {
    buffer_.clear();
    used_ = 0;
  } else if (used_ > kReadBytes) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(used_));
    used_ = 0;
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

Result<std::optional<Bytes>> FrameDecoder::next() {
  Reader in{ByteView{buffer_}.subspan(used_)};
  if (in.remaining() < kLengthBytes) return std::optional<Bytes>{};
  SP_TRY(const std::uint32_t size, in.u32());
  if (size > max_frame_bytes_) return Error{Code::kMalformed, "frame longer than its cap"};
  if (in.remaining() < size) return std::optional<Bytes>{};
  SP_TRY(const ByteView payload, in.raw(size));
  used_ += kLengthBytes + size;
  return std::optional<Bytes>{to_bytes(payload)};
}

std::size_t FrameDecoder::missing() const {
  Reader in{ByteView{buffer_}.subspan(used_)};
  if (in.remaining() < kLengthBytes) return kLengthBytes - in.remaining();
  const std::uint32_t size = *in.u32();
  if (size > max_frame_bytes_) return 0;  // next() has something to say
  return size > in.remaining() ? size - in.remaining() : 0;
}

FrameChannel::FrameChannel(std::unique_ptr<Stream> stream, FrameLimits limits)
    : stream_(std::move(stream)), limits_(limits), decoder_(limits.max_frame_bytes) {}

Result<std::optional<Bytes>> FrameChannel::receive() {
  return receive(limits_.idle_timeout);
}

Result<std::optional<Bytes>> FrameChannel::receive(milliseconds idle_timeout) {
  const auto start = steady_clock::now();
  bool begun = !decoder_.between_frames();
  auto deadline = begun                       ? start + limits_.frame_timeout
                  : idle_timeout.count() == 0 ? Stream::Deadline::max()
                                              : start + idle_timeout;
  Bytes chunk;
  while (true) {
    SP_TRY(std::optional<Bytes> frame, decoder_.next());
    if (frame) return frame;
    // Memory follows what has arrived, never what a length promises.
    chunk.resize(std::min(std::max(decoder_.missing(), std::size_t{4096}), kReadBytes));
    SP_TRY(const std::size_t got, stream_->read_some(chunk, deadline));
    if (got == 0) {
      if (!begun) return std::optional<Bytes>{};
      return Error{Code::kUnavailable, Reason::kPeer, "the stream ended inside a frame", Next::kReopenSession,
                   0};
    }
    if (!begun) {
      begun = true;
      deadline = steady_clock::now() + limits_.frame_timeout;
    }
    decoder_.feed(ByteView{chunk}.first(got));
  }
}

Status FrameChannel::send(ByteView payload) {
  if (payload.size() > limits_.max_frame_bytes) return Error{Code::kMalformed, "frame longer than its cap"};
  return stream_->write_all(encode_frame(payload), steady_clock::now() + limits_.write_timeout);
}

struct FrameServer::Impl {
  struct Served {
    std::unique_ptr<FrameChannel> channel;
    PeerCredentials peer;
    std::thread thread;
    bool ended = false;  // guarded by mutex
  };

  FrameServerOptions options;
  ConnectionFunction serve;
  Descriptor listener;
  Descriptor wake;  // an eventfd: a connection ended, or stop() was called
  std::thread acceptor;
  mutable std::mutex mutex;
  std::list<Served> served;  // guarded by mutex; only the acceptor adds and removes, until it has ended
  std::atomic<bool> stopping = false;

  void accept_loop();
  void run(Served& one);
  void reap();
  void wake_up();
  void stop();
};

void FrameServer::Impl::run(Served& one) {
  try {
    serve(*one.channel, one.peer);
  } catch (...) {
    // The connection ends; what the function wants told it tells itself.
  }
  one.channel->stream().shutdown();
  const std::lock_guard lock{mutex};
  one.ended = true;
  wake_up();  // so that the acceptor joins this thread
}

void FrameServer::Impl::wake_up() {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(wake.get(), &one, sizeof(one)));
}

void FrameServer::Impl::reap() {
  std::list<Served> ended;
  {
    const std::lock_guard lock{mutex};
    for (auto it = served.begin(); it != served.end();) {
      const auto next = std::next(it);
      if (it->ended) ended.splice(ended.end(), served, it);
      it = next;
    }
  }
  for (Served& one : ended) one.thread.join();
}

void FrameServer::Impl::accept_loop() {
  while (true) {
    pollfd both[2] = {{listener.get(), POLLIN, 0}, {wake.get(), POLLIN, 0}};
    if (::poll(both, 2, -1) < 0) {
      SP_ASSERT(errno == EINTR || errno == ENOMEM);
      continue;
    }
    if (both[1].revents != 0) {
      std::uint64_t events = 0;
      static_cast<void>(!::read(wake.get(), &events, sizeof(events)));
      if (stopping) return;
      reap();
    }
    if ((both[0].revents & POLLIN) == 0) continue;
    Descriptor socket{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (socket.get() < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) ::poll(nullptr, 0, 50);
      continue;
    }
    const auto peer = credentials_of(socket.get());
    if (!peer || (options.admits && !options.admits(*peer))) continue;
    const std::lock_guard lock{mutex};
    const auto live =
        std::count_if(served.begin(), served.end(), [](const Served& one) { return !one.ended; });
    if (static_cast<std::size_t>(live) >= options.max_connections) continue;
    Served& one = served.emplace_back();
    one.channel =
        std::make_unique<FrameChannel>(std::make_unique<SocketStream>(std::move(socket)), options.limits);
    one.peer = *peer;
    try {
      one.thread = std::thread{[this, &one] { run(one); }};
    } catch (const std::system_error&) {
      served.pop_back();  // no thread to be had: as if over the cap
    }
  }
}

void FrameServer::Impl::stop() {
  if (!acceptor.joinable()) return;
  stopping = true;
  wake_up();
  acceptor.join();
  std::error_code ignored;
  std::filesystem::remove(options.socket, ignored);
  listener = Descriptor{};
  {
    const std::lock_guard lock{mutex};
    for (Served& one : served) one.channel->stream().shutdown_reading();
  }
  // No thread adds to or removes from the list any more, so it is walked without the lock that the ending
  // threads need.
  for (Served& one : served) one.thread.join();
  served.clear();
}

FrameServer::FrameServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FrameServer::FrameServer(FrameServer&&) noexcept = default;
FrameServer& FrameServer::operator=(FrameServer&& other) noexcept {
  if (this != &other) {
    if (impl_) impl_->stop();
    impl_ = std::move(other.impl_);
  }
  return *this;
}
FrameServer::~FrameServer() {
  if (impl_) impl_->stop();
}

Result<FrameServer> FrameServer::start(FrameServerOptions options, ConnectionFunction serve) {
  SP_TRY(const sockaddr_un address, unix_address(options.socket));
  struct stat found {};
  if (::lstat(options.socket.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode))
      return Error{Code::kConflict, Reason::kPeer, "something other than a socket is there"};
    if (connect_descriptor(options.socket, milliseconds{100}))
      return Error{Code::kConflict, Reason::kPeer, "another server listens on the socket"};
    std::error_code ignored;
    std::filesystem::remove(options.socket, ignored);
  }
  auto impl = std::make_unique<Impl>();
  impl->listener = Descriptor{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  impl->wake = Descriptor{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (impl->listener.get() < 0 || impl->wake.get() < 0) return system_failed("socket", errno);
  // The mode is set on the descriptor first: Linux gives it to the file that bind makes, so the socket is
  // never open wider (nor before it listens, to the group that it is given).
  if (::fchmod(impl->listener.get(), options.socket_mode) != 0) return system_failed("fchmod", errno);
  if (::bind(impl->listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return system_failed("bind", errno);
  if (options.socket_group && ::chown(options.socket.c_str(), uid_t(-1), *options.socket_group) != 0)
    return system_failed("chown", errno);
  if (::chmod(options.socket.c_str(), options.socket_mode) != 0 ||
      ::listen(impl->listener.get(), SOMAXCONN) != 0)
    return system_failed("listen", errno);
  impl->options = std::move(options);
  impl->serve = std::move(serve);
  impl->acceptor = std::thread{[raw = impl.get()] { raw->accept_loop(); }};
  return FrameServer{std::move(impl)};
}

Result<FrameServer> FrameServer::start_calls(FrameServerOptions options, CallFunction answer) {
  return start(std::move(options),
               [answer = std::move(answer)](FrameChannel& channel, const PeerCredentials& peer) {
                 while (true) {
                   const auto request = channel.receive();
                   if (!request || !request->has_value()) return;
                   const auto reply = answer(**request, peer);
                   if (!reply || !channel.send(*reply)) return;
                 }
               });
}

std::size_t FrameServer::connections() const {
  const std::lock_guard lock{impl_->mutex};
  return static_cast<std::size_t>(
      std::count_if(impl_->served.begin(), impl_->served.end(), [](const auto& one) { return !one.ended; }));
}

void FrameServer::stop() {
  impl_->stop();
}

Result<std::unique_ptr<Stream>> connect_unix(const std::filesystem::path& socket, milliseconds timeout) {
  SP_TRY(Descriptor fd, connect_descriptor(socket, timeout));
  return std::unique_ptr<Stream>{std::make_unique<SocketStream>(std::move(fd))};
}

Result<PeerCredentials> peer_credentials_of(const Stream& stream) {
  return credentials_of(stream.poll_fd());
}

std::unique_ptr<Stream> make_stream(int connected_socket) {
  return std::make_unique<SocketStream>(Descriptor{connected_socket});
}

Result<FrameClient> FrameClient::connect(const std::filesystem::path& socket, FrameLimits limits,
                                         milliseconds connect_timeout) {
  SP_TRY(std::unique_ptr<Stream> stream, connect_unix(socket, connect_timeout));
  SP_TRY(const PeerCredentials server, peer_credentials_of(*stream));
  return FrameClient{std::make_unique<FrameChannel>(std::move(stream), limits), server};
}

Result<Bytes> FrameClient::call(ByteView request, milliseconds timeout) {
  const auto closed = [](const char* what) {
    return Error{Code::kUnavailable, Reason::kPeer, what, Next::kReopenSession, 0};
  };
  if (!channel_) return closed("the connection is closed");
  const auto attempt = [&]() -> Result<Bytes> {
    SP_CHECK(channel_->send(request));
    SP_TRY(std::optional<Bytes> answer, channel_->receive(timeout));
    if (!answer) return closed("the server ended the connection");
    return std::move(*answer);
  };
  Result<Bytes> result = attempt();
  if (!result) channel_.reset();
  return result;
}

}  // namespace sallyport::net
