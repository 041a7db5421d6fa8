#include "client/engineer/agent_protocol.h"

#include <algorithm>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/ssh_key.h"
#include "broker/credentials/ssh_certificate.h"

namespace sallyport::client::engineer {
namespace {

// draft-miller-ssh-agent §6.1.
constexpr std::uint8_t kFailure = 5, kSuccess = 6, kRequestIdentities = 11, kIdentitiesAnswer = 12,
                       kSignRequest = 13, kSignResponse = 14, kExtension = 27;
constexpr std::string_view kSessionBind = "session-bind@openssh.com";
constexpr std::size_t kMaxMessageBytes = 256u << 10;

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

Error not_allowed(std::string what) {
  return Error{Code::kDenied, Reason::kLeaseContent, std::move(what)};
}

}  // namespace

Result<Bytes> AgentConnection::bind_session(ByteView rest) {
  Reader in{rest};
  SP_TRY(const ByteView host_key, in.prefixed32(1024));
  SP_TRY(const ByteView session_id, in.prefixed32(64));
  SP_TRY(const ByteView signature, in.prefixed32(1024));
  SP_TRY(const std::uint8_t forwarding, in.u8());
  SP_CHECK(in.finish());
  if (forwarding != 0) return not_allowed("the agent is not forwarded");
  if (session_id_) return not_allowed("the connection is bound already");
  SP_TRY(const crypto::PublicKey key, crypto::parse_ssh_key_blob(host_key));
  SP_CHECK(verify_host_bind(key, session_id, signature));
  const std::string fingerprint = crypto::ssh_fingerprint(host_key);
  if (std::find(key_.host_keys.begin(), key_.host_keys.end(), fingerprint) == key_.host_keys.end())
    return Error{Code::kUnverified, Reason::kLeaseHost, fingerprint + " is no host key of " + key_.host};
  session_id_ = to_bytes(session_id);
  host_key_ = to_bytes(host_key);
  return Bytes{kSuccess};
}

Result<Bytes> AgentConnection::sign(ByteView rest) {
  Reader in{rest};
  SP_TRY(const ByteView key_blob, in.prefixed32(credentials::kMaxSshCertificateBytes));
  SP_TRY(const ByteView content, in.prefixed32(128u << 10));
  SP_TRY(const std::uint32_t flags, in.u32());
  SP_CHECK(in.finish());
  if (!equal(key_blob, key_.certificate) || flags != 0)
    return not_allowed("the agent has one key, the session's certificate");
  SP_TRY(const auto login, credentials::parse_ssh_login(content));
  SP_CHECK(key_.allows(login));
  if (!session_id_ || login.session_id != *session_id_ || login.host_key != *host_key_)
    return not_allowed("the login is not of the connection that was bound to a host");
  SP_TRY(const crypto::Signature64 signature, key_.sign(content));
  return std::move(Writer{}.u8(kSignResponse).prefixed32(crypto::ssh_signature_blob(signature))).take();
}

Result<Bytes> AgentConnection::answer(ByteView message) {
  Reader in{message};
  SP_TRY(const std::uint8_t type, in.u8());
  if (type == kRequestIdentities) {
    SP_CHECK(in.finish());
    return std::move(
               Writer{}.u8(kIdentitiesAnswer).u32(1).prefixed32(key_.certificate).prefixed32("sallyport"))
        .take();
  }
  if (type == kSignRequest) return sign(in.rest());
  if (type == kExtension) {
    SP_TRY(const ByteView name, in.prefixed32(128));
    if (as_text(name) == kSessionBind) return bind_session(in.rest());
  }
  return Error{Code::kMalformed, "the agent does not do this"};
}

bool AgentConnection::take(ByteView bytes, const std::function<bool(ByteView reply)>& send) {
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  std::size_t used = 0;
  for (;;) {
    Reader in{ByteView{buffer_}.subspan(used)};
    const auto size = in.u32();
    if (!size.has_value()) break;
    if (*size == 0 || *size > kMaxMessageBytes) return false;
    const auto message = in.raw(*size);
    if (!message.has_value()) break;
    const auto reply = answer(*message);
    if (!reply.has_value() && (reply.error().code != Code::kMalformed || (*message)[0] == kSignRequest))
      refused_ = reply.error();
    if (!send(std::move(Writer{}.prefixed32(reply.has_value() ? ByteView{*reply} : ByteView{&kFailure, 1}))
                  .take()))
      return false;
    used += 4 + *size;
  }
  buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(used));
  return true;
}

}  // namespace sallyport::client::engineer
