#include "attestation/evidence/certify.h"

#include "attestation/evidence/signed_attest.h"

namespace sallyport::evidence {

Result<SessionKeyPolicy> session_key_policy(const VerifiedQuote& quote, const crypto::PublicKey& lease_key,
                                            const Origin& origin, const CaseId& case_id) {
  SP_TRY(LeaseKeyPublic lease, lease_key_public(lease_key));
  return SessionKeyPolicy{.selection = quote.selection(),
                          .pcr_digest = quote.pcr_digest(),
                          .reset_count = quote.clock().reset_count,
                          .restart_count = quote.clock().restart_count,
                          .lease_key = std::move(lease.name),
                          .policy_ref = lease_policy_ref(origin, case_id)};
}

Result<VerifiedKey> verify_certify(const SignedAttest& evidence, const AttestationKey& ak,
                                   const Digest256& binding, ByteView tpmt_public, SessionKeyUse use,
                                   const SessionKeyPolicy& policy, const crypto::VerifiedSignatures* known) {
  SP_TRY(const ClaimedAttest claimed, verify_signed_attest(evidence, ak, binding, known));
  const auto* certify = std::get_if<ClaimedCertify>(&claimed.attested);
  if (certify == nullptr) return Error{Code::kMalformed, "attestation that is not a certification"};

  SP_TRY(PublicArea area, parse_public_area(tpmt_public));
  const Digest256 wanted_policy = policy_digest(policy);
  PublicTemplate wanted = session_key_template(use, wanted_policy);
  // The policy apart, so that its reason is its own; together the two comparisons are of the whole template.
  const bool policy_holds = area.form.auth_policy == wanted.auth_policy;
  wanted.auth_policy = area.form.auth_policy;
  if (area.form != wanted)
    return Error{Code::kUnverified, Reason::kKeyTemplate, "session key that is not the template"};
  if (!policy_holds)
    return Error{Code::kUnverified, Reason::kKeyPolicy, "session key with another policy than the case's"};

  TpmName name = name_of_encoded(tpmt_public, NameAlg::kSha256);
  if (certify->name != name)
    return Error{Code::kUnverified, Reason::kKeyCertify, "certification of another key"};
  if (certify->qualified_name != qualified_name_of_primary(kHandleNull, name))
    return Error{Code::kUnverified, Reason::kKeyCertify, "key that is not a primary of the NULL hierarchy"};
  if (claimed.clock.reset_count != policy.reset_count || claimed.clock.restart_count != policy.restart_count)
    return Error{Code::kUnverified, Reason::kBootCounters, "certification of another boot than the policy's"};
  return VerifiedKey{use,           std::move(name), std::move(area),
                     wanted_policy, claimed.clock,   claimed.firmware_version};
}

}  // namespace sallyport::evidence
