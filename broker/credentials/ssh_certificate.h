#pragma once

#include "attestation/crypto/public_key.h"
#include "attestation/record/dossier.h"

namespace sallyport::credentials {

inline constexpr std::size_t kMaxSshCertificateBytes = 48u << 10;
inline constexpr std::string_view kSshCertificateType = "ecdsa-sha2-nistp256-cert-v01@openssh.com";
inline constexpr std::string_view kDossierExtension = "dossier@sallyport";
inline constexpr std::string_view kForceCommand = "sallyport-gate session";

// principal_of gives the one principal of a case's certificate, "sallyport:<case id>".
std::string principal_of(const CaseId& case_id);

// ssh_to_be_signed gives every byte that the CA signs: a pure function of the grant, its leaf, the CA's key
// and the dossier that is stapled. Nobody can choose a field: serial and nonce come from the leaf's hash,
// times from its time, the principal from its case (OpenSSH PROTOCOL.certkeys,
// ecdsa-sha2-nistp256-cert-v01@openssh.com). `ca` is P-256.
Bytes ssh_to_be_signed(const record::VerifiedGrant& grant, const crypto::PublicKey& ca,
                       ByteView travel_dossier);

// ssh_certificate appends the CA's signature over SHA-256 of the to-be-signed bytes: the certificate in wire
// form.
Bytes ssh_certificate(ByteView to_be_signed, const crypto::Signature64& signature);

// ClaimedSshCertificate is a certificate taken apart; nothing of it is believed.
struct ClaimedSshCertificate {
  Bytes to_be_signed;
  crypto::Signature64 signature;
  Bytes travel_dossier;
};
// parse_ssh_certificate finds the stapled dossier and the signature. It reads no other field:
// verify_ssh_certificate rebuilds them.
Result<ClaimedSshCertificate> parse_ssh_certificate(ByteView wire);

// verify_ssh_certificate checks that the certificate is the grant's, byte for byte, and signed by `ca`.
//   Proves:         the region's CA signed exactly the template of this grant with exactly this dossier in
//   it. Does not prove: anything about the grant itself (verify_dossier). Errors:         kGrantMismatch (a
//   byte differs), kUnverified (signature).
Status verify_ssh_certificate(const ClaimedSshCertificate& certificate, const record::VerifiedGrant& grant,
                              const crypto::PublicKey& ca);

}  // namespace sallyport::credentials
