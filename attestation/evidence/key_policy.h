#pragma once

#include "attestation/base/strong.h"
#include "attestation/evidence/attest.h"
#include "attestation/evidence/public_area.h"

namespace sallyport::evidence {

// SessionKeyPolicy is what must hold at each use of a session key. Its digest is
//   d0 = 32 zero bytes
//   d1 = SHA-256(d0 ‖ 0000017F ‖ TPML_PCR_SELECTION ‖ pcr digest)                              PolicyPCR
//   d2 = SHA-256(d1 ‖ 0000016D ‖ SHA-256(resetCount u32 ‖ restartCount u32 ‖ 0010 ‖ 0000))
//   PolicyCounterTimer(offset 16, EQ) d3 = SHA-256(SHA-256(d2 ‖ 00000160 ‖ lease key Name) ‖ policyRef)
//   PolicySigned
// in this order (TPM 2.0 Library Part 3 rev 1.59 §23); the commands are to be run in it too.
struct SessionKeyPolicy {
  PcrSelection selection;
  Digest256 pcr_digest;
  std::uint32_t reset_count = 0;
  std::uint32_t restart_count = 0;
  TpmName lease_key;
  Digest256 policy_ref;
};
Digest256 policy_digest(const SessionKeyPolicy& policy);

// lease_policy_ref is SHA-256("sallyport/lease/v1" 00 ‖ origin ‖ 00 ‖ case id): no lease serves another log
// or case.
Digest256 lease_policy_ref(const Origin& origin, const CaseId& case_id);

// cp_hash_sign is cpHashA of TPM2_Sign by a key of session_key_template(kSign), inScheme TPM_ALG_NULL (the
// key's own scheme) and a NULL validation ticket (Part 1 rev 1.59 §18.7, Part 3 §20.2); exactly these
// parameters must be sent:
//   SHA-256( 0000015D ‖ key Name ‖ 0020 digest ‖ 0010 ‖ 8024 40000007 0000 )
Digest256 cp_hash_sign(const TpmName& key, const Digest256& digest);

// cp_hash_ecdh_zgen is cpHashA of TPM2_ECDH_ZGen by a key of session_key_template(kAgree); `point` is 65
// bytes, SEC 1 uncompressed:
//   SHA-256( 00000154 ‖ key Name ‖ 0044 0020 x 0020 y )
// Errors: kMalformed for another form of point.
Result<Digest256> cp_hash_ecdh_zgen(const TpmName& key, ByteView point);

inline constexpr std::uint32_t kMinLeaseSeconds = 1;
inline constexpr std::uint32_t kMaxLeaseSeconds = 30;

// lease_hash is aHash of TPM2_PolicySigned (Part 3 §23.3), what a lease signs:
//   SHA-256( nonceTPM ‖ expiration i32be ‖ cpHashA ‖ policyRef )
// nonceTPM must be 32 bytes (the session's digest is SHA-256) and 1 ≤ expiration ≤ 30 s: with zero or less
// the TPM would hand out a ticket, and without nonceTPM the signature could be used again. Errors:
// kMalformed.
Result<Digest256> lease_hash(ByteView nonce_tpm, std::uint32_t expiration_seconds, const Digest256& cp_hash,
                             const Digest256& policy_ref);

}  // namespace sallyport::evidence
