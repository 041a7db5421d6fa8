#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attestation/api/messages.h"
#include "attestation/policy/diff.h"
#include "attestation/policy/quorum.h"
#include "attestation/record/state.h"
#include "client/terminal/cases.h"

namespace sallyport::client::approver {

// CaseFile is what the broker handed out about one case. Nothing of it is believed.
struct CaseFile {
  api::CaseView view;
  std::vector<record::Blob> blobs;  // of the leaves in it
};

// Piece is evidence that a person can open and read: an attached file, the text of a policy, a certificate.
struct Piece {
  std::string name;
  record::Blob blob;
  Digest256 sha256;
};

struct AccessReview {
  record::EvaluatedRequest evaluated;
  record::Observation seen;  // of the connection, by the broker
  record::Device device;
};

struct EnrolmentReview {
  record::EnrolmentRequested statement;
  record::Device device;                      // as it would be enrolled
  evidence::VerifiedEndorsement endorsement;  // of its TPM
  std::optional<record::Device> replaced;     // enrolled with this EK already
  bool retired = false;                       // that one
  std::uint64_t firmware_version = 0;         // of its TPM, as quoted
  std::string boot;                           // the reference that accepts what it has booted
  std::optional<Error> boot_refused;          // or why none does: enrolled, it would be let in to nothing
};

struct PolicyReview {
  record::PolicyProposed statement;
  std::shared_ptr<const record::LoadedPolicy> next;
  std::vector<policy::DiffLine> diff;  // against the policy in force
};

struct ErasureReview {
  record::ErasureProposed statement;
};

// SignedBy is an approval in the case. One that does not hold says why, and does not count.
struct SignedBy {
  std::string person;
  LeafIndex leaf;
  UnixMillis time;
  bool attested = false;
  std::string group;  // that it fills a place of; empty: none
  std::optional<Reason> wrong;
};

// Review is one case as this machine has found it to be. Only check_case makes one.
struct Review {
  CaseId case_id;
  record::Kind kind = record::Kind::kRequest;  // or kPolicyProposed, kEnrolmentRequested, kErasureProposed
  LeafIndex leaf;                              // that opened the case
  UnixMillis opened, expires;
  std::optional<Reason> over;                          // why nothing can be decided in it any more
  std::string person;                                  // who opened it,
  std::string token;                                   // with which token of the policy
  Digest256 opening_digest;                            // of the opening statement
  Digest256 to_sign;                                   // what an approval carries as `decision`
  std::shared_ptr<const record::LoadedPolicy> policy;  // the one in force, by which it was judged
  policy::QuorumQuestion question;
  policy::QuorumProgress progress;
  std::vector<SignedBy> signed_by;
  std::vector<Piece> pieces;
  std::optional<AccessReview> access;  // exactly one of these four
  std::optional<EnrolmentReview> enrolment;
  std::optional<PolicyReview> change;
  std::optional<ErasureReview> erasure;
};

// check_case judges a case from the bytes themselves, with this machine's own state of the log and its own
// policy; the broker's summary of it is not used.
//   Proves:         the opening leaf is in the log that witnesses cosigned, and commits to these bytes; its
//                   statement is signed by a live token of its person; its evidence holds (a request:
//                   evaluate_request; a machine: its endorsement, quote and baseline; a policy: it loads and
//                   succeeds the one in force). `to_sign` is what an honest broker would ask to be signed.
//   Does not prove: that the person told the truth, that the network address is true (the broker saw it), or
//                   that a machine to be enrolled holds the TPM (make_challenge does), or what is in the
//                   cases that an erasure names.
//   Errors:         kCaseUnknown; kLogBody, kLogMissingBody; kApprovalOtherDecision, when the broker asks for
//                   another decision; the reason for which the statement or its evidence does not hold.
//   Pure: `now` only decides what has expired.
Result<Review> check_case(const record::ControlState& control, const LeafAt& leaf_at, const CaseFile& file,
                          UnixMillis now);

// check_unchanged compares a case with how it was shown before.
//   Proves:  the same bytes would be signed, and the same policy rules.
//   Errors:  kApprovalOtherDecision, kPolicyChanged; why the case is over by now.   Pure.
Status check_unchanged(const Review& shown, const Review& found);

// wanted_items gives the evidence of a case's leaves that a CaseFile must hold. Errors: kLogBody, kMalformed.
Result<std::vector<record::EvidenceItem>> wanted_items(const api::CaseView& view);

}  // namespace sallyport::client::approver
