#pragma once

#include "attestation/evidence/key_policy.h"
#include "attestation/evidence/quote.h"

namespace sallyport::evidence {

class VerifiedKey {
 public:
  SessionKeyUse use() const { return use_; }
  const TpmName& name() const { return name_; }
  const crypto::PublicKey& key() const { return area_.key; }
  const PublicArea& area() const { return area_; }
  const Digest256& policy() const { return policy_; }
  const ClockInfo& clock() const { return clock_; }
  std::uint64_t firmware_version() const { return firmware_version_; }

 private:
  friend Result<VerifiedKey> verify_certify(const SignedAttest& evidence, const AttestationKey& ak,
                                            const Digest256& binding, ByteView tpmt_public, SessionKeyUse use,
                                            const SessionKeyPolicy& policy,
                                            const crypto::VerifiedSignatures* known);
  VerifiedKey(SessionKeyUse use, TpmName name, PublicArea area, const Digest256& policy,
              const ClockInfo& clock, std::uint64_t firmware_version)
      : use_(use),
        name_(std::move(name)),
        area_(std::move(area)),
        policy_(policy),
        clock_(clock),
        firmware_version_(firmware_version) {}
  SessionKeyUse use_;
  TpmName name_;
  PublicArea area_;
  Digest256 policy_;
  ClockInfo clock_;
  std::uint64_t firmware_version_;
};

// session_key_policy gives the policy that a session key of this case must have, from the quote made with it.
// Errors: kMalformed when the lease key is not P-256.
Result<SessionKeyPolicy> session_key_policy(const VerifiedQuote& quote, const crypto::PublicKey& lease_key,
                                            const Origin& origin, const CaseId& case_id);

// verify_certify checks the certification (TPM2_Certify) of a session key: exact decoding, type,
// qualifiedSigner, extraData = `binding`, `tpmt_public` is session_key_template(use, policy_digest(policy))
// byte for byte, the certified Name is its Name, the qualified name is that of a primary in the NULL
// hierarchy, resetCount and restartCount are the policy's, the signature.
//   Proves:         the key is in the TPM that holds `ak`, cannot leave it, dies with the boot, and each use
//   needs the PCRs and
//                   counters of `policy` and a lease for its policyRef.
//   Does not prove: that `ak` lives in a genuine TPM, or that `policy` is the right one (session_key_policy
//   of a verified quote). Errors:         kMalformed; kUnverified with kKeyTemplate, kKeyPolicy, kKeyCertify,
//   kQuoteNonce, kBootCounters or
//                   kQuoteSignature.   Pure; one signature check, unless `known` holds that signature.
Result<VerifiedKey> verify_certify(const SignedAttest& evidence, const AttestationKey& ak,
                                   const Digest256& binding, ByteView tpmt_public, SessionKeyUse use,
                                   const SessionKeyPolicy& policy,
                                   const crypto::VerifiedSignatures* known = nullptr);

}  // namespace sallyport::evidence
