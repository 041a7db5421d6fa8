#include "broker/keyguard/client.h"

#include <gtest/gtest.h>

#include <atomic>

#include "attestation/net/frames.h"
#include "tests/support/files.h"
#include "tests/support/matchers.h"

namespace sallyport::keyguard {
namespace {

using std::chrono::seconds;
using test::FailsWith;
using test::Succeeds;
using test::value_of;

// A keyguard that answers status, and dies over every lease.
class DyingKeyguard {
 public:
  explicit DyingKeyguard(const std::filesystem::path& socket) {
    net::FrameServerOptions options;
    options.socket = socket;
    options.limits.max_frame_bytes = kMaxFrameBytes;
    server_ = value_of(net::FrameServer::start_calls(
        options, [this](ByteView bytes, const net::PeerCredentials&) -> Result<Bytes> {
          SP_TRY(const Frame frame, parse_frame(bytes));
          if (frame.call == Call::kLease) ++leases;
          if (frame.call != Call::kStatus) return Error{Code::kInternal, "dies"};
          StatusAnswer answer;
          answer.origin = "us.example/log/1";
          return encode_frame(Call::kStatus, encode(answer));
        }));
  }
  std::atomic<int> leases = 0;

 private:
  std::optional<net::FrameServer> server_;
};

// Whether a lease was signed is not known when the connection is lost, and the keyguard signs none twice:
// sent again it would be refused as used, which is an error of another kind.
TEST(KeyguardClient, SendsALeaseOnce) {
  const test::TemporaryDirectory directory;
  DyingKeyguard keyguard{directory / "socket"};
  Client client{directory / "socket", seconds{5}};
  ASSERT_THAT(client.status(), Succeeds());  // a connection is kept
  EXPECT_THAT(client.lease({}), FailsWith(Reason::kKeyguardAway));
  EXPECT_EQ(keyguard.leases, 1);
}

TEST(KeyguardClient, SendsTheOtherCallsAgainWhenAKeptConnectionIsDead) {
  const test::TemporaryDirectory directory;
  std::optional<DyingKeyguard> keyguard{directory / "socket"};
  Client client{directory / "socket", seconds{5}};
  ASSERT_THAT(client.status(), Succeeds());
  keyguard.reset();
  EXPECT_THAT(client.status(), FailsWith(Reason::kKeyguardAway));
  keyguard.emplace(directory / "socket");
  EXPECT_THAT(client.status(), Succeeds());
  keyguard.reset();
  keyguard.emplace(directory / "socket");
  EXPECT_THAT(client.status(), Succeeds());
}

}  // namespace
}  // namespace sallyport::keyguard
