#include "client/approver/sign.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/appraise.h"

namespace sallyport::client::approver {
namespace {

using record::EvidenceType;
using record::Kind;

constexpr std::string_view kAnswerLabel{"sallyport/enrol/v1\0", 19};

Bytes with_size(ByteView bytes) {
  Writer out;
  out.prefixed16(bytes);
  return std::move(out).take();
}

}  // namespace

bool wants_machine(const Review& review) {
  return review.question.approver && review.question.approver->attested;
}

Status check_may_sign(const Review& review, const std::string& person, bool attested) {
  if (review.over) return Error{Code::kDenied, *review.over, "nothing can be decided in this case any more"};
  for (const SignedBy& earlier : review.signed_by)
    if (earlier.person == person)
      return Error{Code::kDenied, Reason::kApprovalDuplicate, person + " has approved this case"};
  if (const auto why =
          policy::why_not_eligible(review.policy->policy, review.question, PersonId{person}, attested)) {
    if (*why == Reason::kApprovalNotAttested)
      return Error{Code::kDenied, *why,
                   "approve from an enrolled machine: sallyport enroll, and tcti in config.toml"};
    return Error{Code::kDenied, *why, "an approval by " + person + " would not count in this case"};
  }
  return Done{};
}

Result<record::Submission> sign_approval(const Review& review, const Origin& origin, const Signer& signer,
                                         const std::optional<ThisMachine>& machine, const Nonce& nonce,
                                         UnixMillis now) {
  SP_CHECK(check_may_sign(review, signer.person, machine.has_value()));
  record::Approval approval;
  approval.approver = signer.person;
  approval.authority = origin.get();
  approval.case_id = review.case_id;
  approval.decision = review.to_sign;
  approval.nonce = nonce;
  approval.time = now;
  approval.expires = std::min(record::operator+(now, record::life_of(review.kind)), review.expires);
  if (approval.expires <= now)
    return Error{Code::kDenied, Reason::kCaseExpired, "the case expires before it could be approved"};
  if (machine) approval.device = machine->device;
  const std::string type = record::payload_type(Kind::kApproval);
  const Bytes payload = record::encode(approval);
  record::Submission submission;
  SP_TRY(submission.envelope, signer.envelope(type, payload));
  if (machine) {
    const evidence::Binding binding{.purpose = evidence::Purpose::kApprove,
                                    .origin = origin,
                                    .case_id = review.case_id,
                                    .request = record::statement_digest(type, payload),
                                    .nonce = nonce,
                                    .note = note_text_digest(machine->note)};
    SP_TRY(record::Blob quote, machine->quote(binding));
    submission.blobs.push_back(std::move(quote));
    submission.blobs.push_back({EvidenceType::kNote, to_bytes(as_bytes(machine->note))});
    if (machine->event_log) submission.blobs.push_back(*machine->event_log);
    if (machine->ima) {
      SP_TRY(auto measured, machine->ima(binding));
      std::move(measured.begin(), measured.end(), std::back_inserter(submission.blobs));
    }
  }
  return submission;
}

Result<CredentialChallenge> make_challenge(const Review& review, const SecretBytes& secret,
                                           const evidence::CredentialEntropy& entropy) {
  if (!review.enrolment) return Error{Code::kInternal, "a challenge where no machine is to be enrolled"};
  const EnrolmentReview& enrolment = *review.enrolment;
  SP_TRY(const evidence::CredentialBlob blob,
         evidence::make_credential(enrolment.endorsement.ek, enrolment.device.attestation_key.name(),
                                   secret.expose(), entropy));
  Bytes message = to_bytes(as_bytes(kAnswerLabel));
  const ByteView digest = view(review.opening_digest);
  message.insert(message.end(), digest.begin(), digest.end());
  return CredentialChallenge{{with_size(blob.id_object), with_size(blob.encrypted_secret), 0},
                             crypto::hmac_sha256(secret.expose(), message)};
}

Status check_answer(const CredentialChallenge& asked, std::string_view answer_hex) {
  const auto answer = parse_digest(answer_hex);
  if (!answer || !equal_in_constant_time(view(*answer), view(asked.expected)))
    return Error{Code::kUnverified, Reason::kCredentialChallenge,
                 "the machine did not show that its TPM holds the key that it wants enrolled"};
  return Done{};
}

}  // namespace sallyport::client::approver
