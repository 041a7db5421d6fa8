#include "broker/credentials/ssh_login.h"

#include <algorithm>

#include "attestation/base/reader.h"
#include "attestation/crypto/ssh_key.h"
#include "broker/credentials/ssh_certificate.h"

namespace sallyport::credentials {
namespace {

constexpr std::uint8_t kUserauthRequest = 50;  // RFC 4252 §6
constexpr std::string_view kHostbound = "publickey-hostbound-v00@openssh.com";

Error refused(std::string what) {
  return Error{Code::kUnverified, Reason::kLeaseContent, std::move(what)};
}

}  // namespace

Result<SshLogin> parse_ssh_login(ByteView content) {
  Reader in{content};
  SP_TRY(const ByteView session_id, in.prefixed32(64));
  SP_TRY(const std::uint8_t message, in.u8());
  if (message != kUserauthRequest) return refused("not an SSH login");
  SP_TRY(const ByteView user, in.prefixed32(64));
  SP_TRY(const ByteView service, in.prefixed32(32));
  if (as_text(service) != "ssh-connection") return refused("another service than ssh-connection");
  SP_TRY(const ByteView method, in.prefixed32(64));
  if (as_text(method) != kHostbound) return refused("a login that is not bound to a host key");
  SP_TRY(const std::uint8_t has_signature, in.u8());
  if (has_signature != 1) return refused("a login without a signature");
  SP_TRY(const ByteView algorithm, in.prefixed32(64));
  if (as_text(algorithm) != kSshCertificateType) return refused("another key than a P-256 certificate");
  SP_TRY(const ByteView certificate, in.prefixed32(kMaxSshCertificateBytes));
  SP_TRY(const ByteView host_key, in.prefixed32(1024));
  SP_CHECK(in.finish());
  if (session_id.empty()) return refused("a login without a session id");
  return SshLogin{to_bytes(session_id), std::string{as_text(user)}, to_bytes(certificate),
                  to_bytes(host_key)};
}

Status verify_ssh_login(const SshLogin& login, const record::VerifiedGrant& grant, ByteView certificate) {
  if (!equal(login.certificate, certificate)) return refused("the certificate is not this grant's");
  if (login.user != grant.account)
    return Error{Code::kUnverified, Reason::kLeaseUser,
                 "the login is for another account than " + grant.account};
  const std::string fingerprint = crypto::ssh_fingerprint(login.host_key);
  if (std::find(grant.host_keys.begin(), grant.host_keys.end(), fingerprint) == grant.host_keys.end())
    return Error{Code::kUnverified, Reason::kLeaseHost, fingerprint + " is no host key of " + grant.host};
  return Done{};
}

}  // namespace sallyport::credentials
