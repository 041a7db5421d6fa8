#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <thread>

#include "attestation/net/frames.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"

namespace sallyport::net {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using test::FailsWith;
using test::Succeeds;
using test::value_of;

Bytes text(std::string_view t) {
  return to_bytes(as_bytes(t));
}

struct Pair {
  FrameChannel channel;
  int other;
  explicit Pair(FrameLimits limits = {}) : Pair(limits, make()) {}
  ~Pair() { hang_up(); }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  void say(ByteView bytes) {
    ASSERT_EQ(::send(other, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  void hang_up() {
    if (other >= 0) ::close(std::exchange(other, -1));
  }

 private:
  Pair(FrameLimits limits, std::pair<int, int> fds)
      : channel(make_stream(fds.first), limits), other(fds.second) {}
  static std::pair<int, int> make() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    return {fds[0], fds[1]};
  }
};

TEST(NetFrames, EncodesLengthThenBytes) {
  EXPECT_EQ(encode_frame(text("abc")), (Bytes{0, 0, 0, 3, 'a', 'b', 'c'}));
  EXPECT_EQ(encode_frame({}), (Bytes{0, 0, 0, 0}));
}

TEST(NetFrames, DecoderCutsAStreamHoweverItArrives) {
  Bytes stream;
  for (const char* one : {"", "a", "bcd", ""}) {
    const Bytes frame = encode_frame(text(one));
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  for (std::size_t step = 1; step <= stream.size(); ++step) {
    FrameDecoder decoder{16};
    std::vector<Bytes> frames;
    for (std::size_t at = 0; at < stream.size(); at += step) {
      decoder.feed(ByteView{stream}.subspan(at, std::min(step, stream.size() - at)));
      while (auto frame = value_of(decoder.next())) frames.push_back(*frame);
    }
    EXPECT_EQ(frames, (std::vector<Bytes>{{}, text("a"), text("bcd"), {}})) << step;
    EXPECT_TRUE(decoder.between_frames());
  }
}

TEST(NetFrames, DecoderRefusesALengthAboveTheCapAndTakesOneAtIt) {
  FrameDecoder at_cap{3};
  at_cap.feed(encode_frame(text("abc")));
  EXPECT_EQ(value_of(at_cap.next()), text("abc"));
  FrameDecoder above{2};
  above.feed(ByteView{encode_frame(text("abc"))}.first(4));  // the length alone is enough
  EXPECT_EQ(above.missing(), 0U);
  EXPECT_THAT(above.next(), FailsWith(Code::kMalformed));
}

TEST(NetFrames, ChannelReceivesAndSends) {
  Pair pair;
  pair.say(encode_frame(text("one")));
  pair.say(encode_frame(text("")));
  EXPECT_EQ(value_of(pair.channel.receive()), text("one"));
  EXPECT_EQ(value_of(pair.channel.receive()), text(""));
  ASSERT_THAT(pair.channel.send(text("back")), Succeeds());
  std::uint8_t got[16];
  EXPECT_EQ(::recv(pair.other, got, sizeof(got), 0), 8);
  EXPECT_EQ(to_bytes(ByteView{got, 8}), encode_frame(text("back")));
}

TEST(NetFrames, AnEndBetweenFramesIsAnEndAndInsideOneAnError) {
  Pair clean;
  clean.say(encode_frame(text("x")));
  clean.hang_up();
  EXPECT_EQ(value_of(clean.channel.receive()), text("x"));
  EXPECT_EQ(value_of(clean.channel.receive()), std::nullopt);

  const Bytes frame = encode_frame(text("abc"));
  for (std::size_t cut = 1; cut < frame.size(); ++cut) {
    Pair truncated;
    truncated.say(ByteView{frame}.first(cut));
    truncated.hang_up();
    EXPECT_THAT(truncated.channel.receive(), FailsWith(Reason::kPeer)) << cut;
  }
}

TEST(NetFrames, CapsHoldBothWays) {
  FrameLimits limits;
  limits.max_frame_bytes = 8;
  Pair pair{limits};
  EXPECT_THAT(pair.channel.send(Bytes(9)), FailsWith(Code::kMalformed));
  EXPECT_THAT(pair.channel.send(Bytes(8)), Succeeds());
  pair.say(encode_frame(Bytes(9)));
  EXPECT_THAT(pair.channel.receive(), FailsWith(Code::kMalformed));
}

TEST(NetFrames, SlowPeersTimeOut) {
  FrameLimits limits;
  limits.idle_timeout = 30ms;
  limits.frame_timeout = 30ms;
  limits.write_timeout = 30ms;
  limits.max_frame_bytes = 16 * 1024 * 1024;
  Pair silent{limits};
  EXPECT_THAT(silent.channel.receive(), FailsWith(Reason::kPeerTimeout));
  Pair stuck{limits};
  stuck.say(ByteView{encode_frame(text("abc"))}.first(5));
  EXPECT_THAT(stuck.channel.receive(10s), FailsWith(Reason::kPeerTimeout));
  Pair deaf{limits};
  EXPECT_THAT(deaf.channel.send(Bytes(8 * 1024 * 1024)), FailsWith(Reason::kPeerTimeout));
}

TEST(NetFrameServer, AnswersCallsAndKnowsThePeer) {
  const test::TemporaryDirectory directory;
  FrameServerOptions options;
  options.socket = directory / "s";
  const auto server = value_of(
      FrameServer::start_calls(options, [](ByteView request, const PeerCredentials& peer) -> Result<Bytes> {
        if (as_text(request) == "bad") return Error{Code::kMalformed, "bad"};
        return text(std::string{as_text(request)} + " " + std::to_string(peer.uid) + " " +
                    std::to_string(peer.pid));
      }));
  struct stat found {};
  ASSERT_EQ(::lstat(options.socket.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600U);
  auto client = value_of(FrameClient::connect(options.socket, {}));
  EXPECT_EQ(client.server().uid, ::getuid());
  const std::string who = " " + std::to_string(::getuid()) + " " + std::to_string(::getpid());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(value_of(client.call(text("hello"), 10s)), text("hello" + who));
  EXPECT_THAT(client.call(text("bad"), 10s), FailsWith(Reason::kPeer));
  EXPECT_FALSE(client.is_open());
  EXPECT_THAT(client.call(text("hello"), 10s), FailsWith(Reason::kPeer));
}

TEST(NetFrameServer, ServesConnectionsAtOnceUpToTheCap) {
  const test::TemporaryDirectory directory;
  FrameServerOptions options;
  options.socket = directory / "s";
  options.max_connections = 4;
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  const auto server = value_of(
      FrameServer::start_calls(options, [&](ByteView request, const PeerCredentials&) -> Result<Bytes> {
        std::unique_lock lock{mutex};
        ++inside;
        changed.notify_all();
        EXPECT_TRUE(changed.wait_for(lock, 10s, [&] { return inside >= 4; }));
        return to_bytes(request);
      }));
  std::vector<FrameClient> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(value_of(FrameClient::connect(options.socket, {})));
  std::vector<std::thread> threads;
  for (auto& client : clients)
    threads.emplace_back([&client] { EXPECT_EQ(value_of(client.call(text("x"), 10s)), text("x")); });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(server.connections(), 4U);
  auto fifth = value_of(FrameClient::connect(options.socket, {}));
  EXPECT_THAT(fifth.call(text("x"), 10s), FailsWith(Reason::kPeer));
  clients.pop_back();  // room again
  const auto deadline = steady_clock::now() + 10s;
  while (server.connections() > 3 && steady_clock::now() < deadline) std::this_thread::yield();
  auto sixth = value_of(FrameClient::connect(options.socket, {}));
  EXPECT_EQ(value_of(sixth.call(text("y"), 10s)), text("y"));
}

TEST(NetFrameServer, StopsWhileBusyAndStillWritesTheAnswer) {
  const test::TemporaryDirectory directory;
  FrameServerOptions options;
  options.socket = directory / "s";
  std::mutex mutex;
  std::condition_variable changed;
  bool entered = false, released = false;
  auto server =
      value_of(FrameServer::start_calls(options, [&](ByteView, const PeerCredentials&) -> Result<Bytes> {
        std::unique_lock lock{mutex};
        entered = true;
        changed.notify_all();
        EXPECT_TRUE(changed.wait_for(lock, 10s, [&] { return released; }));
        return text("done");
      }));
  auto idle = value_of(FrameClient::connect(options.socket, {}));
  std::thread busy{[&] {
    auto client = value_of(FrameClient::connect(options.socket, {}));
    EXPECT_EQ(value_of(client.call(text("x"), 10s)), text("done"));
  }};
  {
    std::unique_lock lock{mutex};
    ASSERT_TRUE(changed.wait_for(lock, 10s, [&] { return entered; }));
  }
  std::thread stopper{[&] { server.stop(); }};
  const auto deadline = steady_clock::now() + 10s;
  while (std::filesystem::exists(options.socket) && steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_FALSE(std::filesystem::exists(options.socket));
  {
    const std::lock_guard lock{mutex};
    released = true;
    changed.notify_all();
  }
  stopper.join();
  busy.join();
  EXPECT_THAT(idle.call(text("x"), 10s), FailsWith(Reason::kPeer));
  EXPECT_THAT(FrameClient::connect(options.socket, {}), FailsWith(Reason::kPeer));
}

TEST(NetFrameServer, ReplacesAStaleSocketButNotALivingServerOrAFile) {
  const test::TemporaryDirectory directory;
  FrameServerOptions options;
  options.socket = directory / "s";
  const auto echo = [](ByteView request, const PeerCredentials&) -> Result<Bytes> {
    return to_bytes(request);
  };
  {
    auto living = value_of(FrameServer::start_calls(options, echo));
    EXPECT_THAT(FrameServer::start_calls(options, echo), FailsWith(Code::kConflict));
    std::filesystem::rename(options.socket, directory / "stale");
  }
  std::filesystem::rename(directory / "stale", options.socket);
  const auto next = FrameServer::start_calls(options, echo);
  EXPECT_THAT(next, Succeeds());
  FrameServerOptions file;
  file.socket = directory / "file";
  std::ofstream{file.socket} << "precious";
  EXPECT_THAT(FrameServer::start_calls(file, echo), FailsWith(Code::kConflict));
  EXPECT_TRUE(std::filesystem::exists(file.socket));
  FrameServerOptions longer;
  longer.socket = directory / std::string(120, 'x');
  EXPECT_THAT(FrameServer::start_calls(longer, echo), FailsWith(Code::kMalformed));
}

TEST(NetFrameServer, AConnectionFunctionMayStreamBothWaysAndThrow) {
  const test::TemporaryDirectory directory;
  FrameServerOptions options;
  options.socket = directory / "s";
  const auto server = value_of(FrameServer::start(options, [](FrameChannel& channel, const PeerCredentials&) {
    for (int i = 0; i < 3; ++i) EXPECT_THAT(channel.send(text(std::to_string(i))), Succeeds());
    EXPECT_EQ(value_of(channel.receive()), text("thanks"));
    throw std::runtime_error{"ends the connection, not the server"};
  }));
  for (int round = 0; round < 2; ++round) {
    FrameChannel channel{value_of(connect_unix(options.socket, 5s)), {}};
    for (int i = 0; i < 3; ++i) EXPECT_EQ(value_of(channel.receive(10s)), text(std::to_string(i)));
    ASSERT_THAT(channel.send(text("thanks")), Succeeds());
    EXPECT_EQ(value_of(channel.receive(10s)), std::nullopt);
  }
}

}  // namespace
}  // namespace sallyport::net
