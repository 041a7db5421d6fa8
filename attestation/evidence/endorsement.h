#pragma once

#include <optional>
#include <span>
#include <string>

#include "attestation/crypto/x509.h"
#include "attestation/evidence/public_area.h"

namespace sallyport::evidence {

inline constexpr std::size_t kMaxEkCertificateBytes = 4096;  // as read from NV, padding included

// EkOddity is what a real EK certificate has that it should not, and that is borne. It decides nothing: it is
// for whoever looks at the certificate.
enum class EkOddity : std::uint8_t {
  kHeader,           // behind the 7-byte header of TPM 1.2 tools
  kPadding,          // before bytes that fill the NV index
  kNotDer,           // a name whose RDN is not in DER's order (Nuvoton)
  kMultiValuedName,  // the TPM named in one multi-valued RDN (Nuvoton)
  kNoEku,            // without an extended key usage
  kGoogleInstance,   // of a virtual machine's TPM, told by Google's extension in place of a TPM's name
  kExpired,          // no longer valid, or a CA over it is not; only where TpmRoots take such
};
std::string_view sentence(EkOddity oddity);

// parse_ek_certificate takes what is in a TPM's NV index: a certificate, perhaps behind the 7-byte header 10
// 01 00 LL LL 10 02 and before padding that repeats one byte (0x00 and 0xFF are seen in the field). Anything
// else after the DER is refused. Errors: kMalformed (kEkCertificate).
Result<crypto::Certificate> parse_ek_certificate(ByteView as_read);

// split_chain takes certificates one after the other, as the NV indices from 0x01C00100 on hold those of
// on-die CAs. Whether each is a certificate is not looked at. Errors: kMalformed (kEkCertificate) for other
// bytes.
Result<std::vector<Bytes>> split_chain(ByteView bytes);

// TpmRoots are the vendors' roots that the policy pins, and intermediates, which are trusted for nothing
// alone.
struct TpmRoots {
  std::vector<crypto::Certificate> roots;
  std::vector<crypto::Certificate> intermediates;
  bool expired_accepted = false;  // what they vouched for counts after its time, and after theirs
};

// split_bundle takes a PEM bundle apart: self-issued certificates are roots, the others intermediates. (So a
// bundle that lists an intermediate as its root, without the CA over it, trusts nothing by it.)
// Errors: kMalformed.
Result<TpmRoots> split_bundle(ByteView pem);

// TpmModel is what a certificate's SAN says of the TPM, as written there: "id:53544D20", "ST33HTPHAHB4",
// "id:00490004".
struct TpmModel {
  std::string manufacturer, model, version;
};

// manufacturer_text gives the letters of a TCG vendor id: "STM" of "id:53544D20"; the text itself when it is
// no such id, or is not of letters.
std::string manufacturer_text(std::string_view manufacturer);

// ClaimedEkCertificate is what an EK certificate says of itself.
struct ClaimedEkCertificate {
  crypto::Certificate certificate;
  std::optional<crypto::PublicKey> key;  // none: of an algorithm or a size that is not supported
  TpmModel tpm;                          // what it does not name is empty
  std::vector<EkOddity> oddities;        // in order of EkOddity
  std::optional<Error> refused;          // the first fault that no roots and no time can mend
};

// read_ek_certificate is parse_ek_certificate, and looks at all that verify_ek_certificate requires of the
// certificate alone: without roots, and without the time.
//   Does not prove: anything: whoever wrote the certificate wrote it as he liked.
//   Errors:         kMalformed (kEkCertificate): it is no certificate. Other faults are in `refused`.   Pure.
Result<ClaimedEkCertificate> read_ek_certificate(ByteView as_read);

struct VerifiedEkCertificate {
  crypto::Certificate certificate;
  crypto::PublicKey key;
  TpmModel tpm;
  std::vector<crypto::Certificate> path;  // from the certificate to the root
  std::vector<EkOddity> oddities;         // in order of EkOddity
};

// verify_ek_certificate checks an EK certificate (TCG EK Credential Profile 2.x). Required: X.509 v3, not a
// CA, keyUsage keyEncipherment (RSA) or keyAgreement (ECC), tcg-kp-EKCertificate where an EKU is present, SAN
// with manufacturer, model and version (or, where there is no such SAN, Google's instance extension: then
// "id:474F4F47", "vTPM", and no version), a chain to one of `roots` with every certificate valid at `at`; or,
// where these accept expired ones, with every certificate valid when the EK's became so, not after `at`.
// `chain` is what came with the certificate.
//   Proves:         a vendor among `roots` certified this key as the endorsement key of one of its TPMs.
//   Does not prove: that the machine at the other end has that TPM (the credential challenge does), or that
//   nothing was revoked: vendor roots and
//                   enrolments are revoked by the policy and the log.
//   Errors:         kMalformed (kEkCertificate, kEkUnsupported); kUnverified (kEkChain, kEkCertificate);
//   kStale (kEkExpired).   Pure.
Result<VerifiedEkCertificate> verify_ek_certificate(ByteView certificate_as_read,
                                                    std::span<const Bytes> chain, const TpmRoots& roots,
                                                    UnixMillis at);

struct VerifiedEndorsement {
  DeviceId device;  // SHA-256 of the EK's SubjectPublicKeyInfo
  PublicArea ek;
  std::string manufacturer, model, version;  // from the certificate's SAN, as written there
  std::string root;                          // the subject of the root that its chain ends in
  std::vector<EkOddity> oddities;
};

// verify_endorsement is verify_ek_certificate, and that `ek_tpmt_public` is the certified key in one of
// ek_templates(). Errors: besides those, kMalformed (kKeyTemplate) and kUnverified (kEkCertificate: the
// certificate is of another key).   Pure.
Result<VerifiedEndorsement> verify_endorsement(ByteView certificate_as_read, std::span<const Bytes> chain,
                                               ByteView ek_tpmt_public, const TpmRoots& roots, UnixMillis at);

}  // namespace sallyport::evidence
