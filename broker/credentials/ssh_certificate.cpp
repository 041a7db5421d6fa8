#include "broker/credentials/ssh_certificate.h"

#include "attestation/base/hex.h"
#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/ssh_key.h"

namespace sallyport::credentials {
namespace {

constexpr std::uint32_t kUserCertificate = 1;

std::uint64_t serial_of(const Digest256& leaf_hash) {
  const Digest256 digest =
      crypto::sha256({as_bytes(std::string_view{"sallyport/serial/v1\0", 20}), view(leaf_hash)});
  std::uint64_t serial = 0;
  for (std::size_t i = 0; i < 8; ++i) serial = serial << 8 | digest.get()[i];
  return serial & 0x7FFFFFFFFFFFFFFF;  // OpenSSH prints and revokes serials up to 2^63
}

Digest256 nonce_of(const Digest256& leaf_hash) {
  return crypto::sha256(
      {as_bytes(std::string_view{"sallyport/certificate-nonce/v1\0", 31}), view(leaf_hash)});
}

// Options and extensions are a name and a string; that string holds a string again, or nothing
// (PROTOCOL.certkeys).
void put_option(Writer& out, std::string_view name, ByteView data) {
  out.prefixed32(name).prefixed32(Writer{}.prefixed32(data).bytes());
}

Bytes critical_options(const record::VerifiedGrant& grant) {
  std::string networks;
  for (const std::string& network : grant.source_networks)
    networks += (networks.empty() ? "" : ",") + network;
  Writer out;
  put_option(out, "force-command", as_bytes(kForceCommand));
  put_option(out, "source-address", as_bytes(networks));
  return std::move(out).take();
}

Bytes extensions(ByteView travel_dossier) {
  Writer out;
  put_option(out, kDossierExtension, travel_dossier);
  out.prefixed32("permit-pty").prefixed32("");
  return std::move(out).take();
}

}  // namespace

std::string principal_of(const CaseId& case_id) {
  return "sallyport:" + to_hex(case_id);
}

Bytes ssh_to_be_signed(const record::VerifiedGrant& grant, const crypto::PublicKey& ca,
                       ByteView travel_dossier) {
  const std::string principal = principal_of(grant.case_id);
  const auto ca_blob = crypto::ssh_key_blob(ca);
  SP_ASSERT(ca_blob.has_value() && ca.algorithm() == crypto::KeyAlgorithm::kP256);
  Writer out;
  out.prefixed32(kSshCertificateType)
      .prefixed32(view(nonce_of(grant.leaf_hash)))
      .prefixed32("nistp256")
      .prefixed32(grant.session_key.raw())
      .u64(serial_of(grant.leaf_hash))
      .u32(kUserCertificate)
      .prefixed32(principal)
      .prefixed32(Writer{}.prefixed32(principal).bytes())
      .u64(grant.not_before.get() / 1000)
      .u64(grant.not_after.get() / 1000)
      .prefixed32(critical_options(grant))
      .prefixed32(extensions(travel_dossier))
      .prefixed32("")
      .prefixed32(*ca_blob);
  return std::move(out).take();
}

Bytes ssh_certificate(ByteView to_be_signed, const crypto::Signature64& signature) {
  return std::move(Writer{}.raw(to_be_signed).prefixed32(crypto::ssh_signature_blob(signature))).take();
}

Result<ClaimedSshCertificate> parse_ssh_certificate(ByteView wire) {
  if (wire.size() > kMaxSshCertificateBytes)
    return Error{Code::kMalformed, "certificate longer than its cap"};
  Reader in{wire};
  SP_TRY(const ByteView type, in.prefixed32(64));
  if (as_text(type) != kSshCertificateType) return Error{Code::kMalformed, "not a P-256 SSH certificate"};
  SP_TRY(const ByteView nonce, in.prefixed32(32));
  SP_TRY(const ByteView curve, in.prefixed32(16));
  SP_TRY(const ByteView point, in.prefixed32(65));
  SP_TRY(const ByteView serial_and_type, in.raw(8 + 4));
  SP_TRY(const ByteView key_id, in.prefixed32(256));
  SP_TRY(const ByteView principals, in.prefixed32(256));
  SP_TRY(const ByteView times, in.raw(16));
  SP_TRY(const ByteView options, in.prefixed32(16u << 10));
  SP_TRY(const ByteView extension_bytes, in.prefixed32(kMaxSshCertificateBytes));
  SP_TRY(const ByteView reserved, in.prefixed32(0));
  SP_TRY(const ByteView ca, in.prefixed32(256));
  const std::size_t signed_size = wire.size() - in.remaining();
  SP_TRY(const ByteView signature, in.prefixed32(256));
  SP_CHECK(in.finish());
  for (const ByteView rebuilt :
       {nonce, curve, point, serial_and_type, key_id, principals, times, options, reserved, ca})
    (void)rebuilt;  // verify_ssh_certificate compares them with the template's

  ClaimedSshCertificate certificate;
  certificate.to_be_signed = to_bytes(wire.first(signed_size));
  SP_TRY(certificate.signature, crypto::parse_ssh_signature_blob(signature));
  Reader extension_reader{extension_bytes};
  SP_TRY(const ByteView name, extension_reader.prefixed32(64));
  if (as_text(name) != kDossierExtension) return Error{Code::kMalformed, "certificate without a dossier"};
  SP_TRY(const ByteView data, extension_reader.prefixed32(kMaxSshCertificateBytes));
  Reader inner{data};
  SP_TRY(const ByteView dossier, inner.prefixed32(record::kMaxTravelDossierBytes));
  SP_CHECK(inner.finish());
  certificate.travel_dossier = to_bytes(dossier);
  return certificate;
}

Status verify_ssh_certificate(const ClaimedSshCertificate& certificate, const record::VerifiedGrant& grant,
                              const crypto::PublicKey& ca) {
  const Bytes expected = ssh_to_be_signed(grant, ca, certificate.travel_dossier);
  if (!equal(expected, certificate.to_be_signed))
    return Error{Code::kUnverified, Reason::kGrantMismatch,
                 "the certificate is not the template of its grant"};
  return crypto::verify_p256(ca, crypto::sha256(certificate.to_be_signed), certificate.signature);
}

}  // namespace sallyport::credentials
