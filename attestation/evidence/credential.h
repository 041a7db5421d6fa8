#pragma once

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/evidence/public_area.h"

namespace sallyport::evidence {

// CredentialBlob is what TPM2_ActivateCredential takes: the contents of TPM2B_ID_OBJECT (credentialBlob) and
// of TPM2B_ENCRYPTED_SECRET, each without the TPM2B size in front.
struct CredentialBlob {
  Bytes id_object;
  Bytes encrypted_secret;
  friend bool operator==(const CredentialBlob&, const CredentialBlob&) = default;
};

inline constexpr std::size_t kMaxCredentialSecret = 32;
using CredentialEntropy = ByteArray<64>;  // fresh and secret for each blob: crypto::random_array<64>()

// make_credential is TPM2_MakeCredential in software (TPM 2.0 Library Part 1 rev 1.59 §24, annexes B.10.3 and
// C.6.3) to an RSA-2048, P-256 or P-384 endorsement key, with the hash and AES key of that key's template.
// The same arguments give the same bytes: all randomness is `entropy` (RSA: seed, then OAEP seed, 32 bytes
// each; ECC: ephemeral scalar = entropy mod (n − 1) + 1).
//   Proves, once `secret` comes back: the TPM that holds `ek` holds an object with the Name `object`.
//   Does not prove: what that object is; compare its public area with ak_template (parse_attestation_key) and
//   compute the Name. Errors:         kMalformed (kEkUnsupported: no storage key, or scheme set; secret empty
//   or above 32 bytes).   Pure.
Result<CredentialBlob> make_credential(const PublicArea& ek, const TpmName& object, ByteView secret,
                                       const CredentialEntropy& entropy);

}  // namespace sallyport::evidence
