#pragma once

#include "attestation/evidence/binding.h"
#include "attestation/policy/quorum.h"
#include "attestation/record/state.h"
#include "attestation/record/times.h"

// Inside of this room: the judgement of single statements with their evidence, shared by the fold and
// verify_dossier so that there is one of each. All of it is pure.
namespace sallyport::record {

// check_header: the statement's authority is this log, its case that of the body.
Status check_header(const Origin& origin, const std::string& authority, const CaseId& case_id,
                    const Body& body);

// check_time: a statement's own time is at most kMaxTimeSkew from the leaf's. Errors: kStale.
Status check_time(UnixMillis statement, UnixMillis leaf);

// verify_person checks that `envelope` is signed by one live token of `person`. Errors: those of
// check_signer; kUnverified.
Result<KeyId> verify_person(const ControlState& control, const policy::Policy& policy,
                            const Envelope& envelope, const std::string& person);

// live_device: enrolled and not revoked. Errors: kDeviceUnknown, kDeviceRevoked.
Result<const Device*> live_device(const ControlState& control, const DeviceId& id);

// one_blob gives the bytes of the one item of this type. Errors: kMalformed (not exactly one item),
// kLogMissingBody.
Result<const Blob*> one_blob(const Body& body, const BlobIndex& blobs, EvidenceType type);
// blob_if_any gives the bytes of the one item of this type; null when there is none. Errors: kMalformed
// (several), kLogMissingBody.
Result<const Blob*> blob_if_any(const Body& body, const BlobIndex& blobs, EvidenceType type);
// check_only: the body has items of no other types than these.
Status check_only(const Body& body, std::initializer_list<EvidenceType> types);

struct NoteRules {
  UnixMillis at;               // the leaf's time
  milliseconds max_age;        // of a quorum of cosignatures
  std::uint64_t max_size = 0;  // how far the log had come
};
// verify_note checks a cosigned checkpoint that a machine knew. Errors: kLogCheckpoint, kLogQuorum, kStale,
// kLogRollback (the log had not come so far).
Result<ledger::VerifiedCheckpoint> verify_note(const ControlState& control, const LoadedPolicy& policy,
                                               const Blob& note, const NoteRules& rules);

// verify_machine checks a quote of an enrolled machine: signature, binding, the selection of PCRs that the
// policy wants. Whether its counters may be those, and what was booted, is not looked at.
Result<evidence::VerifiedQuote> verify_machine(const ControlState& control, const LoadedPolicy& policy,
                                               const Device& device, const Blob& quote,
                                               const evidence::Binding& binding);

// check_since_enrolment: the counters of a machine are not behind those of its enrolment. (The clock's rate
// is not compared over such a span: the enrolment's time is the machine's own.) Errors: kBootWentBack; in the
// boot of the enrolment kBootCounters.
Status check_since_enrolment(const evidence::ClockInfo& enrolled, const evidence::ClockInfo& now);

// appraise_machine judges the firmware of a machine's TPM, by the maker that its enrolment recorded
// (evidence::check_tpm_firmware), and what it has booted against the policy's reference values
// (evidence::appraise_boot), by the event log among a statement's evidence, if there is one; a log that was
// judged ahead (ControlState::judged_logs) is not parsed again. Where that has not `travelled`, and may not,
// the boot is not judged: whoever had the full evidence has.
Result<evidence::AcceptedBoot> appraise_machine(const ControlState& control, const LoadedPolicy& policy,
                                                const Device& device, const evidence::VerifiedQuote& quote,
                                                const Body& body, const BlobIndex& blobs, DossierForm form);

// A request, signed by whom it says. What it says is not believed.
struct RequestClaim {
  Request request;
  Digest256 digest;
  KeyId token;
};
Result<RequestClaim> verify_request_claim(const ControlState& control, const LoadedPolicy& policy,
                                          const OpenedStatement& statement);

// Appraisal is what became of a request: an error is the refusal. The quote is there where the machine is
// live and has just made it, whatever the outcome is.
struct Appraisal {
  Result<EvaluatedRequest> outcome;
  std::optional<evidence::VerifiedQuote> quote;
  std::optional<policy::LimitedWay> limited;
};
// check_request_items: what must be there before a request is worth recording. Errors: kMalformed,
// kLogMissingBody.
Status check_request_items(const Body& body, const BlobIndex& blobs);
Appraisal appraise_request(const ControlState& control, const LoadedPolicy& policy, const RequestClaim& claim,
                           const Body& body, const BlobIndex& blobs, std::uint64_t max_size,
                           DossierForm form = DossierForm::kFull);

// What a grant's activation must continue.
struct ActivationContext {
  const Request& request;
  const Digest256& request_digest;
  const evidence::VerifiedQuote& request_quote;
  UnixMillis request_time;     // of its leaf
  const std::string& network;  // region, as decided
  std::uint64_t max_size = 0;  // of the note
};
// verify_activation checks a grant's evidence: a fresh quote in the boot of the request, by the same machine,
// on a fresh note, from the network region that was decided on. It gives that quote.
Result<evidence::VerifiedQuote> verify_activation(const ControlState& control, const LoadedPolicy& policy,
                                                  const Body& body, const BlobIndex& blobs,
                                                  const ActivationContext& context);

struct VerifiedApproval {
  Approval statement;  // of a list, its part in this case
  Digest256 digest;
  KeyId token;
  std::optional<evidence::VerifiedQuote> quote;  // of the machine that was attested with it, if one was
};
struct ApprovalRules {
  CaseId case_id;
  Digest256 to_approve;
  milliseconds max_life;
  bool by_list = false;        // a list-approval counts here: only where machines are enrolled
  std::uint64_t max_size = 0;  // of the note, where a machine signs with the person
  DossierForm form = DossierForm::kFull;
};
// verify_approval checks an approval, or a list of them, with its evidence, but not whether this person may
// approve (check_quorum).
Result<VerifiedApproval> verify_approval(const ControlState& control, const LoadedPolicy& policy,
                                         const OpenedStatement& statement, const ApprovalRules& rules);
// verify_approval_statement is the part of it that needs no body: what a closing policy or enrolment embeds.
Result<VerifiedApproval> verify_approval_statement(const ControlState& control, const LoadedPolicy& policy,
                                                   const Envelope& envelope, const ApprovalRules& rules,
                                                   UnixMillis at);

// is_tpm_maker: one to four printable letters, as in a TCG vendor id.
bool is_tpm_maker(std::string_view text);

// verify_enrolment checks what an enrolment-requested statement says of its machine. `index` is the leaf that
// enrols it. Errors: those of evidence; kDeviceExists, kDeviceRevoked.
struct VerifiedEnrolment {
  Device device;
  evidence::VerifiedEndorsement endorsement;  // of its TPM
  evidence::VerifiedQuote quote;              // of the boot it was asked for in
};
Result<VerifiedEnrolment> verify_enrolment(const ControlState& control, const LoadedPolicy& policy,
                                           const EnrolmentRequested& statement, const Digest256& digest,
                                           const Body& body, const BlobIndex& blobs, LeafIndex index);

// quorum_question asks for the quorum of a decision.
policy::QuorumQuestion quorum_question(const DecisionStatement& decision);

milliseconds life_of(Kind opened_by);

}  // namespace sallyport::record
