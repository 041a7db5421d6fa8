#pragma once

#include <span>
#include <string>

#include "attestation/crypto/x509.h"
#include "attestation/evidence/public_area.h"

namespace sallyport::evidence {

inline constexpr std::size_t kMaxEkCertificateBytes = 4096;  // as read from NV, padding included

// parse_ek_certificate takes what is in a TPM's NV index: a certificate, perhaps behind the 7-byte header 10
// 01 00 LL LL 10 02 and before padding that repeats one byte (0x00 and 0xFF are seen in the field). Anything
// else after the DER is refused. Errors: kMalformed (kEkCertificate).
Result<crypto::Certificate> parse_ek_certificate(ByteView as_read);

// TpmRoots are the vendors' roots that the policy pins, and intermediates, which are trusted for nothing
// alone.
struct TpmRoots {
  std::vector<crypto::Certificate> roots;
  std::vector<crypto::Certificate> intermediates;
};

struct VerifiedEndorsement {
  DeviceId device;  // SHA-256 of the EK's SubjectPublicKeyInfo
  PublicArea ek;
  std::string manufacturer, model, version;  // from the certificate's SAN, as written there
};

// verify_endorsement checks an EK certificate (TCG EK Credential Profile 2.x) and that `ek_tpmt_public` is
// its key in one of ek_templates(). Required: X.509 v3, not a CA, keyUsage keyEncipherment (RSA) or
// keyAgreement (ECC), tcg-kp-EKCertificate where an EKU is present, SAN with manufacturer, model and version,
// a chain to one of `roots` with every certificate valid at `at`. `chain` is what came with the certificate.
//   Proves:         a vendor among `roots` certified this key as the endorsement key of one of its TPMs.
//   Does not prove: that the machine at the other end has that TPM (the credential challenge does), or that
//   nothing was revoked: vendor roots and
//                   enrolments are revoked by the policy and the log.
//   Errors:         kMalformed (kEkCertificate, kEkUnsupported, kKeyTemplate); kUnverified (kEkChain,
//   kEkCertificate).   Pure.
Result<VerifiedEndorsement> verify_endorsement(ByteView certificate_as_read, std::span<const Bytes> chain,
                                               ByteView ek_tpmt_public, const TpmRoots& roots, UnixMillis at);

}  // namespace sallyport::evidence
