#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport::net {

// A frame is a u32 length, big-endian, and that many bytes; an empty frame is one. What the bytes mean is the
// user's.
inline constexpr std::size_t kDefaultMaxFrameBytes = 4 * 1024 * 1024;

// encode_frame gives a frame's bytes; longer than 2^32 - 1 is our own mistake.
Bytes encode_frame(ByteView payload);

// FrameDecoder cuts a stream into frames, however it arrives. Pure; it holds at most one frame and what was
// fed after it.
class FrameDecoder {
 public:
  explicit FrameDecoder(std::size_t max_frame_bytes) : max_frame_bytes_(max_frame_bytes) {}

  void feed(ByteView bytes);
  // next gives the next whole frame, or nothing when more bytes are needed. Errors: kMalformed (a length
  // above the cap; the stream cannot be read further).
  Result<std::optional<Bytes>> next();
  // missing is how many bytes the next call of next() needs at least before it gives something new; 0 when it
  // will now.
  std::size_t missing() const;
  bool between_frames() const { return buffer_.size() == used_; }

 private:
  std::size_t max_frame_bytes_;
  Bytes buffer_;
  std::size_t used_ = 0;
};

// Stream is a two-way stream of bytes with deadlines. One thread may read while another writes.
class Stream {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  virtual ~Stream() = default;
  // read_some reads 1 to into.size() bytes, or 0 at the end. Errors: kPeerTimeout, kPeer.
  virtual Result<std::size_t> read_some(std::span<std::uint8_t> into, Deadline deadline) = 0;
  virtual Status write_all(ByteView bytes, Deadline deadline) = 0;
  virtual void shutdown_reading() = 0;  // a reader, now or later, finds the end
  virtual void shutdown() = 0;          // both ways
  virtual int poll_fd() const = 0;      // to poll for readability, for loops that also wait for other things
};

struct FrameLimits {
  std::size_t max_frame_bytes = kDefaultMaxFrameBytes;  // either way
  std::chrono::milliseconds idle_timeout{0};            // until a frame begins; 0: as long as it takes
  std::chrono::milliseconds frame_timeout{10'000};      // from its first byte to its last
  std::chrono::milliseconds write_timeout{10'000};
};

// FrameChannel sends and receives frames over one stream. One thread may receive while another sends.
class FrameChannel {
 public:
  FrameChannel(std::unique_ptr<Stream> stream, FrameLimits limits);

  // receive gives the next frame, or nothing when the peer ended the stream between two frames.
  //   Errors: kMalformed/kMalformed (above the cap), kUnavailable/kPeer (ended inside a frame, or broken),
  //           kUnavailable/kPeerTimeout. The channel is of no use after an error.
  Result<std::optional<Bytes>> receive();
  Result<std::optional<Bytes>> receive(std::chrono::milliseconds idle_timeout);
  // send writes one frame. Errors: kMalformed (above the cap; nothing was sent), kUnavailable/kPeer,
  // kUnavailable/kPeerTimeout.
  Status send(ByteView payload);

  Stream& stream() { return *stream_; }
  bool frame_buffered() const {
    return decoder_.missing() == 0;
  }  // receive() would not wait; for loops over poll_fd()

 private:
  std::unique_ptr<Stream> stream_;
  FrameLimits limits_;
  FrameDecoder decoder_;
};

// PeerCredentials are what the kernel says of the process that connected (SO_PEERCRED): its ids when it
// connected.
struct PeerCredentials {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
};

struct FrameServerOptions {
  std::filesystem::path
      socket;  // at most 107 bytes; a stale socket there is replaced, a living one is an error
  mode_t socket_mode = 0600;
  std::optional<gid_t> socket_group;  // absent: ours
  // Who may connect; whoever may not is cut off before a byte of his is read. Absent: everybody whom the
  // socket's mode lets in.
  std::function<bool(const PeerCredentials&)> admits;
  std::size_t max_connections = 128;  // the ones beyond are closed at once
  FrameLimits limits;
};

// FrameServer accepts connections on a Unix socket and runs each in a thread of its own until the function
// given returns.
class FrameServer {
 public:
  // ConnectionFunction owns the connection while it runs: it receives and sends as it likes. What it throws
  // ends it.
  using ConnectionFunction = std::function<void(FrameChannel&, const PeerCredentials&)>;
  // CallFunction answers one frame with one frame; an error ends the connection without an answer.
  using CallFunction = std::function<Result<Bytes>(ByteView request, const PeerCredentials&)>;

  // Errors: kMalformed (path too long), kConflict (another server listens there), kUnavailable/kPeer.
  static Result<FrameServer> start(FrameServerOptions options, ConnectionFunction serve);
  static Result<FrameServer> start_calls(FrameServerOptions options, CallFunction answer);

  FrameServer(FrameServer&&) noexcept;
  FrameServer& operator=(FrameServer&&) noexcept;
  ~FrameServer();  // stops

  std::size_t connections() const;
  // stop removes the socket, ends reading on every connection (answers under way can still be written) and
  // joins all threads.
  void stop();

 private:
  struct Impl;
  explicit FrameServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// connect_unix opens a stream to a server's Unix socket. Errors: kMalformed (path too long),
// kUnavailable/kPeer, kPeerTimeout.
Result<std::unique_ptr<Stream>> connect_unix(const std::filesystem::path& socket,
                                             std::chrono::milliseconds timeout);

// peer_credentials_of gives the credentials of the other end of a Unix stream: a client checks its server's
// uid with it.
Result<PeerCredentials> peer_credentials_of(const Stream& stream);

// make_stream adopts a connected stream socket (socketpair, accept); it is closed with the stream.
std::unique_ptr<Stream> make_stream(int connected_socket);

// FrameClient is one connection for calls, used by one thread at a time. After an error it is closed: every
// call fails with kPeer and Next::kReopenSession, since whether the server acted is not known.
class FrameClient {
 public:
  static Result<FrameClient> connect(const std::filesystem::path& socket, FrameLimits limits,
                                     std::chrono::milliseconds connect_timeout = std::chrono::milliseconds{
                                         5'000});
  // call sends a frame and waits for the answer, whose first byte must come within `timeout`.
  Result<Bytes> call(ByteView request, std::chrono::milliseconds timeout);
  bool is_open() const { return channel_ != nullptr; }
  const PeerCredentials& server() const { return server_; }

 private:
  FrameClient(std::unique_ptr<FrameChannel> channel, PeerCredentials server)
      : channel_(std::move(channel)), server_(server) {}
  std::unique_ptr<FrameChannel> channel_;
  PeerCredentials server_;
};

}  // namespace sallyport::net
