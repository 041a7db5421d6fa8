#pragma once

#include <vector>

#include "attestation/evidence/public_area.h"

namespace sallyport::evidence {

// The templates: a public area is accepted when it is, byte for byte, one of these with some `unique`. No
// attribute is looked at alone, so none can be forgotten.

// ak_templates: attestation keys, attributes exactly 0x00050472 (fixedTPM, fixedParent, sensitiveDataOrigin,
// userWithAuth, noDA, restricted, sign), no policy. A primary in the endorsement hierarchy. First ECC P-256
// ECDSA-SHA256; then RSA-2048 RSASSA-SHA256, for TPMs whose firmware leaks ECDSA nonces (tpm_firmware.h).
const std::vector<PublicTemplate>& ak_templates();
const PublicTemplate& ak_template();  // the first

enum class SessionKeyUse : std::uint8_t { kSign, kAgree };

// session_key_template: P-256 primary in the NULL hierarchy under `policy`, fixedTPM | fixedParent |
// sensitiveDataOrigin | noDA, userWithAuth and adminWithPolicy clear. kSign: + sign, scheme ECDSA-SHA256 (so
// TPM2_Sign takes inScheme NULL): 0x00040432. kAgree: + decrypt, scheme NULL, for TPM2_ECDH_ZGen: 0x00020432.
PublicTemplate session_key_template(SessionKeyUse use, const Digest256& policy);

// lease_key_template: the region's lease key as TPM2_LoadExternal (hierarchy NULL) takes it: P-256,
// attributes 0x00040040 (userWithAuth, sign), no policy, symmetric, scheme and kdf NULL.
const PublicTemplate& lease_key_template();

// lease_key_public gives the TPMT_PUBLIC and the Name of a lease key. Errors: kMalformed when the key is not
// P-256.
struct LeaseKeyPublic {
  Bytes tpmt_public;
  TpmName name;
};
Result<LeaseKeyPublic> lease_key_public(const crypto::PublicKey& lease_key);

// ek_templates: the endorsement keys that are accepted, from the TCG EK Credential Profile 2.x: L-1
// (RSA-2048), L-2 (P-256), H-1 (RSA-2048), H-2 (P-256), H-3 (P-384).
const std::vector<PublicTemplate>& ek_templates();

// encode_for_create_ek gives inPublic for one of ek_templates(): the low-range ones have 256, or 32 and 32,
// zero bytes in `unique`.
Bytes encode_for_create_ek(const PublicTemplate& form);

// AttestationKey is a public area that is one of the AK templates. What it signs must be in the scheme of its
// form.
class AttestationKey {
 public:
  const PublicArea& area() const { return area_; }
  const crypto::PublicKey& key() const { return area_.key; }
  const TpmName& name() const { return name_; }
  const TpmName& qualified_name() const { return qualified_name_; }  // as an endorsement primary

 private:
  friend Result<AttestationKey> parse_attestation_key(ByteView tpmt_public);
  explicit AttestationKey(PublicArea area);
  PublicArea area_;
  TpmName name_, qualified_name_;
};

// parse_attestation_key takes the TPMT_PUBLIC of an AK.
//   Proves:         it is an AK template: *if* a TPM holds it, then it signs only what that TPM made.
//   Does not prove: that a TPM holds it (the credential challenge of an enrolment does).
//   Errors:         kMalformed; kUnverified (kKeyTemplate) for another template.   Pure.
Result<AttestationKey> parse_attestation_key(ByteView tpmt_public);

}  // namespace sallyport::evidence
