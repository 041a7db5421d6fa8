#pragma once

#include "attestation/base/secret_bytes.h"
#include "attestation/evidence/credential.h"
#include "client/approver/check.h"
#include "client/connection/session.h"

namespace sallyport::client::approver {

// ThisMachine is the approver's own enrolled machine, where the rule wants it attested.
struct ThisMachine {
  DeviceId device;
  std::string note;  // the newest cosigned checkpoint that it knows
  std::function<Result<record::Blob>(const evidence::Binding&)> quote;
  std::optional<record::Blob> event_log;  // of this boot, where the policy judges boots by their events
  // What was measured since, where the policy wants to know; else none.
  std::function<Result<std::vector<record::Blob>>(const evidence::Binding&)> ima = {};
};

// wants_machine tells whether an approval of this case counts only with the approver's machine attested.
bool wants_machine(const Review& review);

// check_may_sign tells, before anybody is asked to sign, whether this person's approval could count.
//   Errors: why the case is over; kApprovalDuplicate, kApprovalSelf, kApprovalNotEligible,
//   kApprovalNotAttested.
Status check_may_sign(const Review& review, const std::string& person, bool attested);

// sign_approval makes the approval of exactly the decision that was reviewed. It lives as long as its case
// may: at most 1 h for an access.
//   Errors: those of check_may_sign, of the token, of the TPM; kCaseExpired.
Result<record::Submission> sign_approval(const Review& review, const Origin& origin, const Signer& signer,
                                         const std::optional<ThisMachine>& machine, const Nonce& nonce,
                                         UnixMillis now);

// CredentialChallenge is an approver's own question to a TPM: the broker carries it, and cannot answer.
struct CredentialChallenge {
  api::Challenge challenge;
  Digest256 expected;  // HMAC-SHA256(secret, "sallyport/enrol/v1" 00 ‖ digest of the enrolment request)
};

// make_challenge encrypts a secret to the endorsement key of the machine under review, for the attestation
// key that it wants enrolled. Secret and entropy must be fresh and are used for nothing else.
Result<CredentialChallenge> make_challenge(const Review& review, const SecretBytes& secret,
                                           const evidence::CredentialEntropy& entropy);

// check_answer compares in constant time.
//   Proves: the TPM with the certified endorsement key holds the attestation key of the request, and was used
//   for this very request.    Errors: kCredentialChallenge.
Status check_answer(const CredentialChallenge& asked, std::string_view answer_hex);

}  // namespace sallyport::client::approver
