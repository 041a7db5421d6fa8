#include "client/approver/check.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/record/appraise.h"
#include "attestation/record/binding.h"

namespace sallyport::client::approver {
namespace {

using record::Blob;
using record::BlobIndex;
using record::Body;
using record::EvidenceItem;
using record::EvidenceType;
using record::Kind;

void add_pieces(Review& review, const record::OpenedStatement& opened, EvidenceType type,
                const std::function<std::string(const EvidenceItem&)>& name) {
  for (const EvidenceItem& item : record::items_of_type(opened.body, type))
    if (const Blob* blob = opened.blobs.find(item)) review.pieces.push_back({name(item), *blob, item.sha256});
}

Status review_access(const record::ControlState& control, const record::OpenedStatement& opened,
                     Review& review) {
  SP_TRY(record::EvaluatedRequest evaluated,
         record::evaluate_request(control, *review.policy, opened.body, opened.blobs));
  SP_TRY(const Blob* seen, record::one_blob(opened.body, opened.blobs, EvidenceType::kObservation));
  SP_TRY(record::Observation observation, record::parse_observation(seen->bytes));
  SP_TRY(const record::Device* device, record::live_device(control, evaluated.request.device));
  review.person = evaluated.request.person;
  review.opening_digest = evaluated.request_digest;
  review.to_sign = record::decision_digest(evaluated.decision_payload);
  review.question = record::quorum_question(evaluated.decision);
  for (const record::Attachment& attachment : evaluated.request.attachments) {
    const Blob* blob = opened.blobs.find({EvidenceType::kAttachment, attachment.size, attachment.sha256});
    if (blob == nullptr)
      return Error{Code::kUnverified, Reason::kLogMissingBody,
                   "an attached file is missing: " + attachment.name};
    review.pieces.push_back({attachment.name, *blob, attachment.sha256});
  }
  review.access = AccessReview{std::move(evaluated), std::move(observation), *device};
  return Done{};
}

Status review_enrolment(const record::ControlState& control, const record::OpenedStatement& opened,
                        Review& review) {
  const record::LoadedPolicy& policy = *review.policy;
  SP_TRY(record::EnrolmentRequested statement, record::parse_enrolment_requested(opened.envelope.payload));
  SP_CHECK(record::check_header(control.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(record::verify_person(control, policy.policy, opened.envelope, statement.person));
  SP_CHECK(record::check_time(statement.time, opened.body.time));
  SP_TRY(record::VerifiedEnrolment verified,
         record::verify_enrolment(control, policy, statement, opened.digest, opened.body, opened.blobs,
                                  review.leaf));
  record::Device& device = verified.device;
  const auto boot = record::appraise_machine(control, policy, device, verified.quote, opened.body,
                                             opened.blobs, record::DossierForm::kFull);
  review.person = statement.person;
  // Who asks for a machine does not vouch for it too.
  review.question = {policy.policy.authority.enrol, {PersonId{statement.person}}};
  add_pieces(review, opened, EvidenceType::kEkCertificate,
             [n = 0](const EvidenceItem&) mutable { return "ek-" + std::to_string(++n) + ".der"; });
  std::optional<record::Device> replaced;
  if (const record::Device* before = control.find_device(device.id)) replaced = *before;
  const bool retired = control.find_retired(device.id).has_value();
  review.enrolment =
      EnrolmentReview{.statement = std::move(statement),
                      .device = std::move(device),
                      .endorsement = std::move(verified.endorsement),
                      .replaced = std::move(replaced),
                      .retired = retired,
                      .firmware_version = verified.quote.firmware_version(),
                      .boot = boot ? boot->reference : std::string{},
                      .boot_refused = boot ? std::optional<Error>{} : std::optional{boot.error()}};
  return Done{};
}

Status review_policy(const record::ControlState& control, const record::OpenedStatement& opened,
                     Review& review) {
  const policy::Policy& current = review.policy->policy;
  SP_TRY(record::PolicyProposed statement, record::parse_policy_proposed(opened.envelope.payload));
  SP_CHECK(record::check_header(control.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(record::verify_person(control, current, opened.envelope, statement.person));
  SP_CHECK(record::check_time(statement.time, opened.body.time));
  if (statement.previous != current.digest || statement.version != current.version + 1)
    return Error{Code::kDenied, Reason::kPolicyNotSuccessor,
                 "it would follow another policy than the one in force"};
  SP_TRY(record::PolicyDocument document, record::policy_document(opened.body, opened.blobs));
  SP_TRY(record::LoadedPolicy next, record::load_policy(std::move(document), control.origin(), LeafIndex{0}));
  if (next.policy.digest != statement.digest)
    return Error{Code::kUnverified, Reason::kPolicyInvalid, "the text is of another policy than is signed"};
  SP_CHECK(policy::check_successor(current, next.policy));
  review.person = statement.person;
  review.question = {current.authority.change, {}};
  add_pieces(review, opened, EvidenceType::kPolicyText,
             [](const EvidenceItem&) { return std::string{"policy.toml"}; });
  add_pieces(review, opened, EvidenceType::kTpmRoots,
             [](const EvidenceItem&) { return std::string{"tpm-roots.pem"}; });
  add_pieces(review, opened, EvidenceType::kReferences,
             [](const EvidenceItem&) { return std::string{"references.toml"}; });
  std::vector<policy::DiffLine> diff = policy::diff(current, next.policy);
  review.change = PolicyReview{
      std::move(statement), std::make_shared<const record::LoadedPolicy>(std::move(next)), std::move(diff)};
  return Done{};
}

Status review_erasure(const record::ControlState& control, const record::OpenedStatement& opened,
                      UnixMillis now, Review& review) {
  const policy::Policy& current = review.policy->policy;
  SP_CHECK(record::check_only(opened.body, {}));
  SP_TRY(record::ErasureProposed statement, record::parse_erasure_proposed(opened.envelope.payload));
  SP_CHECK(record::check_header(control.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(record::verify_person(control, current, opened.envelope, statement.person));
  SP_CHECK(record::check_time(statement.time, opened.body.time));
  SP_CHECK(record::check_erasable(control, current, statement, now));
  review.person = statement.person;
  review.question = {current.authority.erase->quorum, {}};
  review.erasure = ErasureReview{std::move(statement)};
  return Done{};
}

std::optional<Reason> over(const record::ControlState& control, const CaseId& case_id,
                           const record::CaseTrace& trace, UnixMillis now) {
  if (trace.denied) return Reason::kCaseDenied;
  if (control.is_denied(case_id)) return Reason::kRevoked;
  if (trace.grant) return Reason::kGrantExists;
  if (trace.closed) return Reason::kCaseClosed;
  if (now >= trace.expires) return Reason::kCaseExpired;
  return std::nullopt;
}

// count_approval judges one approval as the fold does when the quorum is counted.
Result<record::VerifiedApproval> count_approval(const record::ControlState& control, const Review& review,
                                                Body body, const BlobIndex& blobs, LeafIndex index,
                                                UnixMillis now) {
  SP_TRY(const record::OpenedStatement opened, record::open_statement(std::move(body), blobs));
  SP_TRY(record::VerifiedApproval approval,
         record::verify_approval(control, *review.policy, opened,
                                 {.case_id = review.case_id,
                                  .to_approve = review.to_sign,
                                  .max_life = record::life_of(review.kind),
                                  .by_list = review.kind == Kind::kEnrolmentRequested,
                                  .max_size = index.get()}));
  if (now >= approval.statement.expires)
    return Error{Code::kDenied, Reason::kApprovalExpired, "the approval has expired"};
  return approval;
}

void review_approvals(const record::ControlState& control, const LeafAt& leaf_at, const api::CaseView& view,
                      const BlobIndex& blobs, UnixMillis now, Review& review) {
  std::vector<policy::CandidateApproval> candidates;
  std::vector<std::size_t> of;  // the row of each candidate
  for (const api::EntryView& one : view.entries) {
    if (one.entry.leaf.kind != static_cast<std::uint8_t>(Kind::kApproval) &&
        one.entry.leaf.kind != static_cast<std::uint8_t>(Kind::kListApproval))
      continue;
    auto body = open_shown(leaf_at, review.case_id, one);
    SignedBy row;
    row.leaf = LeafIndex{one.index};
    row.time = one.entry.leaf.time;
    if (!body) {
      row.wrong = body.error().reason;
      review.signed_by.push_back(std::move(row));
      continue;
    }
    const auto approval = count_approval(control, review, std::move(*body), blobs, LeafIndex{one.index}, now);
    if (!approval) {
      row.wrong = approval.error().reason;
    } else {
      row.person = approval->statement.approver;
      row.attested = approval->quote.has_value();
      candidates.push_back({PersonId{row.person}, row.attested});
      of.push_back(review.signed_by.size());
    }
    review.signed_by.push_back(std::move(row));
  }
  review.progress = policy::check_quorum(review.policy->policy, review.question, candidates);
  for (std::size_t i = 0; i < of.size(); ++i) {
    const policy::ApprovalVerdict& verdict = review.progress.approvals[i];
    SignedBy& row = review.signed_by[of[i]];
    row.wrong = verdict.refused;
    if (verdict.clause) row.group = review.question.quorum[*verdict.clause].group.get();
  }
}

}  // namespace

Result<std::vector<EvidenceItem>> wanted_items(const api::CaseView& view) {
  std::vector<EvidenceItem> out;
  for (const api::EntryView& one : view.entries) {
    SP_TRY(const Kind kind, record::parse_kind(one.entry.leaf.kind));
    if (kind != Kind::kRequest && kind != Kind::kPolicyProposed && kind != Kind::kEnrolmentRequested &&
        kind != Kind::kApproval && kind != Kind::kErasureProposed)
      continue;
    SP_TRY(const Body body, record::parse_body(one.entry.body));
    out.insert(out.end(), body.items.begin(), body.items.end());
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Result<Review> check_case(const record::ControlState& control, const LeafAt& leaf_at, const CaseFile& file,
                          UnixMillis now) {
  const api::CaseView& view = file.view;
  const record::CaseTrace* trace = control.find_case(view.case_id);
  if (trace == nullptr)
    return Error{Code::kDenied, Reason::kCaseUnknown,
                 "the log, as this machine follows it, has no such case"};
  Review review;
  review.policy = control.policy();
  if (!review.policy) return Error{Code::kUnavailable, Reason::kLogOrder, "nothing of the log was followed"};
  review.case_id = view.case_id;
  review.kind = trace->opened_by;
  review.leaf = trace->first;
  review.opened = trace->opened;
  review.expires = trace->expires;
  review.over = over(control, view.case_id, *trace, now);

  const auto opening = std::find_if(view.entries.begin(), view.entries.end(),
                                    [&](const auto& one) { return one.index == trace->first.get(); });
  if (opening == view.entries.end())
    return Error{Code::kUnverified, Reason::kLogMissingBody, "the broker does not show how the case began"};
  SP_TRY(Body body, open_shown(leaf_at, view.case_id, *opening));
  const BlobIndex blobs{file.blobs};
  SP_TRY(const record::OpenedStatement opened, record::open_statement(std::move(body), blobs));
  review.opening_digest = review.to_sign = opened.digest;
  const Status judged = [&]() -> Status {
    switch (review.kind) {
      case Kind::kRequest:
        return review_access(control, opened, review);
      case Kind::kEnrolmentRequested:
        return review_enrolment(control, opened, review);
      case Kind::kPolicyProposed:
        return review_policy(control, opened, review);
      case Kind::kErasureProposed:
        return review_erasure(control, opened, now, review);
      default:
        return Error{Code::kDenied, Reason::kCaseClosed,
                     "there is nothing to approve in a case of this kind"};
    }
  }();
  // What has been decided may rightly not hold a second time: a policy in force does not follow itself.
  if (!judged && review.over)
    return Error{Code::kDenied, *review.over,
                 "it cannot be judged again today: " + std::string{reason_sentence(judged.error().reason)}};
  SP_CHECK(judged);
  if (const auto owner = policy::find_token(review.policy->policy, opened.envelope.signatures[0].key))
    review.token = owner->token->id;
  if (!view.to_approve.empty() && view.to_approve != to_hex(review.to_sign))
    return Error{Code::kUnverified, Reason::kApprovalOtherDecision,
                 "the broker asks for a signature under " + view.to_approve.substr(0, 16) +
                     "…, but this machine decides " + to_hex(review.to_sign).substr(0, 16) + "…"};
  review_approvals(control, leaf_at, view, blobs, now, review);
  return review;
}

Status check_unchanged(const Review& shown, const Review& found) {
  if (found.over) return Error{Code::kDenied, *found.over, "it came to an end after it was shown"};
  if (found.case_id != shown.case_id || found.to_sign != shown.to_sign)
    return Error{Code::kDenied, Reason::kApprovalOtherDecision,
                 "what would be signed changed after it was shown; nothing was signed"};
  if (found.policy->policy.digest != shown.policy->policy.digest)
    return Error{
        Code::kDenied, Reason::kPolicyChanged,
        "another policy came into force after the case was shown; nothing was signed. Review it again"};
  return Done{};
}

}  // namespace sallyport::client::approver
