// Bytes to the ssh-agent: the first one says where the others are cut. However they are cut the replies are
// the same, one to a message; and nothing is signed but a login of the session that one of the two known
// hosts has signed for.
#include <algorithm>
#include <array>

#include "attestation/base/reader.h"
#include "client/engineer/agent_protocol.h"

namespace {

using namespace sallyport;
using client::engineer::AgentConnection;
using client::engineer::AgentKey;

constexpr std::string_view kCertificate = "the certificate";
// The hosts of the corpus: Ed25519, P-256.
const std::vector<std::string> kHosts = {"SHA256:fXcGqwVpzI1M8ZmQkYjHPRVJBAKrFKYkOX3efhEFfAE",
                                         "SHA256:Omyj5rOlSaHOUxDvWUqqzojaAWSH9F1/J3jZu4UE9jw"};

struct Talk {
  bool alive = true;
  Bytes replies;
  std::size_t signatures = 0;
};

Talk talk(ByteView bytes, std::size_t cut) {
  Talk out;
  AgentKey key;
  key.certificate = to_bytes(as_bytes(kCertificate));
  key.host = "db-7";
  key.host_keys = kHosts;
  key.allows = [](const credentials::SshLogin&) -> Status { return Done{}; };
  key.sign = [&](ByteView content) -> Result<crypto::Signature64> {
    const auto login = credentials::parse_ssh_login(content);
    SP_ASSERT(login.has_value());
    // Only a host that holds its key binds a session: the corpus has signed for this one.
    ByteArray<32> signed_session;
    for (std::size_t i = 0; i < signed_session.size(); ++i) signed_session[i] = static_cast<std::uint8_t>(i);
    SP_ASSERT(equal(login->session_id, signed_session));
    ++out.signatures;
    return crypto::Signature64{};
  };
  AgentConnection connection{key};
  const auto keep = [&](ByteView reply) {
    out.replies.insert(out.replies.end(), reply.begin(), reply.end());
    return true;
  };
  for (std::size_t at = 0; at < bytes.size() && out.alive; at += cut)
    out.alive = connection.take(bytes.subspan(at, std::min(cut, bytes.size() - at)), keep);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView bytes{data + 1, size - 1};
  const Talk whole = talk(bytes, std::max<std::size_t>(bytes.size(), 1));
  const Talk cut = talk(bytes, std::size_t{1} + data[0]);
  SP_ASSERT(whole.alive == cut.alive && whole.replies == cut.replies && whole.signatures == cut.signatures);

  // One reply to each whole message, of a kind that answers it.
  Reader in{bytes}, replies{whole.replies};
  std::size_t signatures = 0;
  for (auto message = in.prefixed32(256u << 10); message.has_value() && !message->empty();
       message = in.prefixed32(256u << 10)) {
    const auto reply = replies.prefixed32(256u << 10);
    SP_ASSERT(reply.has_value() && !reply->empty());
    const std::uint8_t asked = (*message)[0], said = (*reply)[0];
    SP_ASSERT(said == 5 || (asked == 11 && said == 12) || (asked == 13 && said == 14) ||
              (asked == 27 && said == 6 && reply->size() == 1));
    signatures += said == 14 ? 1 : 0;
  }
  SP_ASSERT(replies.finish().has_value() && signatures == whole.signatures);
  return 0;
}
