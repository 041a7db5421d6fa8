#include "client/approver/check.h"

#include <algorithm>

#include "attestation/base/hex.h"
#include "attestation/record/appraise.h"
#include "attestation/record/binding.h"

namespace sallyport::client::approver {
namespace {

using record::Blob;
using record::Body;
using record::EvidenceItem;
using record::EvidenceType;
using record::Kind;

std::vector<Blob> blobs_of(const Body& body, const std::vector<Blob>& blobs) {
  std::vector<Blob> out;
  for (const EvidenceItem& item : body.items)
    if (const Blob* blob = record::find_blob(blobs, item)) out.push_back(*blob);
  return out;
}

void add_pieces(Review& review, const Body& body, const std::vector<Blob>& blobs, EvidenceType type,
                const std::function<std::string(const EvidenceItem&)>& name) {
  for (const EvidenceItem& item : record::items_of_type(body, type))
    if (const Blob* blob = record::find_blob(blobs, item))
      review.pieces.push_back({name(item), *blob, item.sha256});
}

Status review_access(const record::ControlState& control, const Body& body, const std::vector<Blob>& blobs,
                     Review& review) {
  SP_TRY(record::EvaluatedRequest evaluated, record::evaluate_request(control, *review.policy, body, blobs));
  SP_TRY(const Blob* seen, record::one_blob(body, blobs, EvidenceType::kObservation));
  SP_TRY(record::Observation observation, record::parse_observation(seen->bytes));
  SP_TRY(const record::Device* device, record::live_device(control, evaluated.request.device));
  review.person = evaluated.request.person;
  review.opening_digest = evaluated.request_digest;
  review.to_sign = record::decision_digest(evaluated.decision_payload);
  review.question = record::quorum_question(evaluated.decision);
  for (const record::Attachment& attachment : evaluated.request.attachments) {
    const Blob* blob =
        record::find_blob(blobs, {EvidenceType::kAttachment, attachment.size, attachment.sha256});
    if (blob == nullptr)
      return Error{Code::kUnverified, Reason::kLogMissingBody,
                   "an attached file is missing: " + attachment.name};
    review.pieces.push_back({attachment.name, *blob, attachment.sha256});
  }
  review.access = AccessReview{std::move(evaluated), std::move(observation), *device};
  return Done{};
}

// The endorsement itself, to be shown; verify_enrolment has judged it already.
struct Endorsement {
  evidence::VerifiedEndorsement verified;
  std::string root;
};
Result<Endorsement> endorsement_of(const record::LoadedPolicy& policy, const Body& body,
                                   const std::vector<Blob>& blobs, ByteView ek) {
  const std::vector<EvidenceItem> items = record::items_of_type(body, EvidenceType::kEkCertificate);
  std::optional<Error> first;
  for (const EvidenceItem& own : items) {
    std::vector<Bytes> others;
    for (const EvidenceItem& item : items)
      if (item != own)
        if (const Blob* blob = record::find_blob(blobs, item)) others.push_back(blob->bytes);
    const Blob* blob = record::find_blob(blobs, own);
    if (blob == nullptr) continue;
    auto verified = evidence::verify_endorsement(blob->bytes, others, ek, policy.roots, body.time);
    if (!verified) {
      if (!first) first = verified.error();
      continue;
    }
    SP_TRY(const auto chain, evidence::verify_ek_certificate(blob->bytes, others, policy.roots, body.time));
    return Endorsement{std::move(*verified), chain.path.back().subject()};
  }
  return first.value_or(
      Error{Code::kUnverified, Reason::kEkCertificate, "no certificate is of the endorsement key"});
}

// The quote of an enrolment, to be shown; verify_enrolment has judged it already.
Result<evidence::VerifiedQuote> quote_of(const record::ControlState& control,
                                         const record::LoadedPolicy& policy,
                                         const record::OpenedStatement& opened,
                                         const record::EnrolmentRequested& statement,
                                         const record::Device& device, const std::vector<Blob>& blobs) {
  SP_TRY(const Blob* blob, record::one_blob(opened.body, blobs, EvidenceType::kQuote));
  SP_TRY(record::QuoteEvidence claimed, record::parse_quote_evidence(blob->bytes));
  const std::vector<Digest256> values{claimed.pcrs.begin(), claimed.pcrs.end()};
  const evidence::Binding binding{.purpose = evidence::Purpose::kEnrol,
                                  .origin = control.origin(),
                                  .case_id = statement.case_id,
                                  .request = opened.digest,
                                  .nonce = statement.nonce,
                                  .note = record::no_note()};
  return evidence::verify_quote({std::move(claimed.attest), std::move(claimed.signature)},
                                device.attestation_key, evidence::binding_digest(binding),
                                policy.references.selection, values);
}

Status review_enrolment(const record::ControlState& control, const record::OpenedStatement& opened,
                        const std::vector<Blob>& blobs, Review& review) {
  const record::LoadedPolicy& policy = *review.policy;
  SP_TRY(record::EnrolmentRequested statement, record::parse_enrolment_requested(opened.envelope.payload));
  SP_CHECK(record::check_header(control.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(record::verify_person(control, policy.policy, opened.envelope, statement.person));
  SP_CHECK(record::check_time(statement.time, opened.body.time));
  SP_TRY(record::Device device, record::verify_enrolment(control, policy, statement, opened.digest,
                                                         opened.body, blobs, review.leaf));
  SP_TRY(Endorsement endorsement, endorsement_of(policy, opened.body, blobs, statement.ek));
  SP_TRY(const evidence::VerifiedQuote quote, quote_of(control, policy, opened, statement, device, blobs));
  const auto boot = record::appraise_machine(control, policy, device, quote, opened.body, blobs,
                                             record::DossierForm::kFull);
  review.person = statement.person;
  // Who asks for a machine does not vouch for it too.
  review.question = {policy.policy.authority.enrol, {PersonId{statement.person}}};
  add_pieces(review, opened.body, blobs, EvidenceType::kEkCertificate,
             [n = 0](const EvidenceItem&) mutable { return "ek-" + std::to_string(++n) + ".der"; });
  std::optional<record::Device> replaced;
  if (const record::Device* before = control.find_device(device.id)) replaced = *before;
  const bool retired = control.find_retired(device.id).has_value();
  review.enrolment =
      EnrolmentReview{.statement = std::move(statement),
                      .device = std::move(device),
                      .endorsement = std::move(endorsement.verified),
                      .replaced = std::move(replaced),
                      .retired = retired,
                      .root = std::move(endorsement.root),
                      .firmware_version = quote.firmware_version(),
                      .boot = boot ? boot->reference : std::string{},
                      .boot_refused = boot ? std::optional<Error>{} : std::optional{boot.error()}};
  return Done{};
}

Status review_policy(const record::ControlState& control, const record::OpenedStatement& opened,
                     const std::vector<Blob>& blobs, Review& review) {
  const policy::Policy& current = review.policy->policy;
  SP_TRY(record::PolicyProposed statement, record::parse_policy_proposed(opened.envelope.payload));
  SP_CHECK(record::check_header(control.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(record::verify_person(control, current, opened.envelope, statement.person));
  SP_CHECK(record::check_time(statement.time, opened.body.time));
  if (statement.previous != current.digest || statement.version != current.version + 1)
    return Error{Code::kDenied, Reason::kPolicyNotSuccessor,
                 "it would follow another policy than the one in force"};
  SP_TRY(record::PolicyDocument document, record::policy_document(opened.body, blobs));
  SP_TRY(record::LoadedPolicy next, record::load_policy(std::move(document), control.origin(), LeafIndex{0}));
  if (next.policy.digest != statement.digest)
    return Error{Code::kUnverified, Reason::kPolicyInvalid, "the text is of another policy than is signed"};
  SP_CHECK(policy::check_successor(current, next.policy));
  review.person = statement.person;
  review.question = {current.authority.change, {}};
  add_pieces(review, opened.body, blobs, EvidenceType::kPolicyText,
             [](const EvidenceItem&) { return std::string{"policy.toml"}; });
  add_pieces(review, opened.body, blobs, EvidenceType::kTpmRoots,
             [](const EvidenceItem&) { return std::string{"tpm-roots.pem"}; });
  add_pieces(review, opened.body, blobs, EvidenceType::kReferences,
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
                                                Body body, const std::vector<Blob>& blobs, LeafIndex index,
                                                UnixMillis now) {
  SP_TRY(const record::OpenedStatement opened, record::open_statement(std::move(body)));
  SP_TRY(record::VerifiedApproval approval,
         record::verify_approval(control, *review.policy, opened, blobs_of(opened.body, blobs),
                                 {.case_id = review.case_id,
                                  .to_approve = review.to_sign,
                                  .max_life = record::life_of(review.kind),
                                  .by_list = review.kind == Kind::kEnrolmentRequested,
                                  .max_size = index.get()}));
  if (now >= approval.statement.expires)
    return Error{Code::kDenied, Reason::kApprovalExpired, "the approval has expired"};
  return approval;
}

void review_approvals(const record::ControlState& control, const LeafAt& leaf_at, const CaseFile& file,
                      UnixMillis now, Review& review) {
  std::vector<policy::CandidateApproval> candidates;
  std::vector<std::size_t> of;  // the row of each candidate
  for (const api::EntryView& one : file.view.entries) {
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
    const auto approval =
        count_approval(control, review, std::move(*body), file.blobs, LeafIndex{one.index}, now);
    if (!approval) {
      row.wrong = approval.error().reason;
    } else {
      row.person = approval->statement.approver;
      row.attested = approval->attested;
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
  SP_TRY(const Body body, open_shown(leaf_at, view.case_id, *opening));
  SP_TRY(const record::OpenedStatement opened, record::open_statement(body));
  const std::vector<Blob> blobs = blobs_of(body, file.blobs);
  review.opening_digest = review.to_sign = opened.digest;
  const Status judged = [&]() -> Status {
    switch (review.kind) {
      case Kind::kRequest:
        return review_access(control, body, blobs, review);
      case Kind::kEnrolmentRequested:
        return review_enrolment(control, opened, blobs, review);
      case Kind::kPolicyProposed:
        return review_policy(control, opened, blobs, review);
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
  review_approvals(control, leaf_at, file, now, review);
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
