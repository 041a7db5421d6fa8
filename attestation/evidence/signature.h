#pragma once

#include "attestation/crypto/verified_signatures.h"
#include "attestation/evidence/public_area.h"

namespace sallyport::evidence {

// TpmSignature is a TPMT_SIGNATURE (Part 2 rev 1.59 §11.3.4) with SHA-256: ECDSA P-256 (r‖s, 64 bytes),
// RSASSA or RSAPSS (256 bytes).
struct TpmSignature {
  Scheme scheme = Scheme::kEcdsaSha256;  // never kNull
  Bytes value;
  friend bool operator==(const TpmSignature&, const TpmSignature&) = default;
};

// parse_signature takes one TPMT_SIGNATURE, r and s at 32 bytes each (a TPM that strips leading zeros is
// normalised by the program beside it, with encode_ecdsa); encode(value) == bytes. SHA-1 and every other
// hash: kMalformed. Pure.
Result<TpmSignature> parse_signature(ByteView bytes);
Bytes encode(const TpmSignature& signature);
// encode_ecdsa makes a TPMT_SIGNATURE of a raw signature r‖s, as an HSM or PKCS #11 token gives it.
Bytes encode_ecdsa(const crypto::Signature64& signature);

// verify_tpm_signature checks a signature by `key` over SHA-256 of `message`.
//   Proves:         the holder of `key` signed these bytes.
//   Does not prove: that a TPM holds the key, or made the bytes (parse_attest and the AK template together
//   do). Errors:         kUnverified (kQuoteSignature), also when scheme and key do not fit.   Pure; one
//   signature check, unless `known` (ECDSA only) holds that signature.
Status verify_tpm_signature(const crypto::PublicKey& key, ByteView message, const TpmSignature& signature,
                            const crypto::VerifiedSignatures* known = nullptr);

}  // namespace sallyport::evidence
