#include <set>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/dossier.h"
#include "attestation/record/fold.h"

namespace sallyport::record {
namespace {

template <class Statement>
Entry unsigned_entry(const ControlState& control, Kind kind, const CaseId& case_id,
                     const Statement& statement, std::vector<Blob> blobs, UnixMillis time,
                     const Nonce& nonce) {
  const Bytes envelope =
      encode_envelope({.type = payload_type(kind), .payload = encode(statement), .signatures = {}});
  return make_entry(kind, time, case_id, predecessor_of(control, case_id), envelope, std::move(blobs), nonce);
}

Result<Bytes> envelope_of(const Entry& entry) {
  SP_TRY(Body body, parse_body(entry.body));
  return std::move(body.envelope);
}

Result<std::vector<Bytes>> envelopes_of(const std::vector<const CountedApproval*>& approvals) {
  std::vector<Bytes> out;
  for (const CountedApproval* approval : approvals) {
    SP_TRY(Bytes envelope, envelope_of(approval->entry));
    out.push_back(std::move(envelope));
  }
  return out;
}

struct ClosableCase {
  const Case* one;
  std::shared_ptr<const LoadedPolicy> policy;
  std::vector<const CountedApproval*> approvals;
};

Result<ClosableCase> find_closable(const State& state, const CaseId& case_id, CaseType type,
                                   UnixMillis time) {
  SP_TRY(const Case* one, find_open_case(state, case_id));
  if (one->type != type) return Error{Code::kDenied, Reason::kCaseUnknown, "the case is of another type"};
  if (time >= one->expires) return Error{Code::kDenied, Reason::kCaseExpired, "the case has expired"};
  std::shared_ptr<const LoadedPolicy> policy = state.control.policy();
  SP_TRY(std::vector<const CountedApproval*> approvals, closing_approvals(state, *one, *policy, time));
  return ClosableCase{one, std::move(policy), std::move(approvals)};
}

// check_fits: a full dossier can hold what proves the grant. One that cannot be shown would be spent for
// nothing.
Status check_fits(const ClosableCase& closable, const Entry& grant) {
  std::size_t bytes = kMaxProofText;
  std::set<EvidenceItem> counted;
  const auto add = [&](const Entry& entry) -> Status {
    SP_TRY(const Body body, parse_body(entry.body));
    bytes += entry.body.size();
    for (const EvidenceItem& item : body.items)
      if (counted.insert(item).second) bytes += item.size;
    return Done{};
  };
  SP_CHECK(add(grant));
  SP_CHECK(add(closable.one->opening));
  for (const CountedApproval* approval : closable.approvals) SP_CHECK(add(approval->entry));
  if (bytes > kMaxFullDossierBytes)
    return Error{Code::kDenied, Reason::kGrantTooLarge,
                 "its evidence has " + std::to_string(bytes >> 20) + " MiB, a dossier holds " +
                     std::to_string(kMaxFullDossierBytes >> 20)};
  return Done{};
}

}  // namespace

Result<QuorumProgress> quorum_progress(const State& state, const CaseId& case_id, UnixMillis at) {
  const auto found = state.cases.find(case_id);
  if (found == state.cases.end()) return Error{Code::kDenied, Reason::kCaseUnknown, "there is no such case"};
  const Case& one = found->second;
  if (one.type == CaseType::kRevocation || one.type == CaseType::kHold ||
      (one.type == CaseType::kAccess && !one.decision))
    return Error{Code::kDenied, one.refusable.value_or(Reason::kCaseClosed), "the case asks for no quorum"};
  const LoadedPolicy& policy = *state.control.policy();
  if (one.type == CaseType::kErasure && !policy.policy.authority.erase)
    return Error{Code::kDenied, Reason::kErasureOff, "the policy lets nobody erase any more"};
  std::vector<policy::CandidateApproval> candidates;
  for (const Standing& approval : standing(state, one, policy, at).approvals)
    candidates.push_back(approval.candidate);
  const policy::QuorumProgress progress =
      policy::check_quorum(policy.policy, question_of(one, policy), candidates);
  QuorumProgress out;
  out.met = progress.met;
  for (const policy::ClauseProgress& clause : progress.clauses) {
    QuorumProgress::Clause& row = out.clauses.emplace_back();
    row.group = clause.group.get();
    row.needed = clause.needed;
    row.have = clause.filled_by.size();
    for (const PersonId& person : clause.filled_by) row.people.push_back(person.get());
  }
  return out;
}

Result<Entry> compose_refusal(const State& state, const CaseId& case_id, UnixMillis time,
                              const Nonce& nonce) {
  const auto found = state.cases.find(case_id);
  if (found == state.cases.end()) return Error{Code::kDenied, Reason::kCaseUnknown, "there is no such case"};
  if (found->second.state != CaseState::kRefusable)
    return Error{Code::kDenied, Reason::kCaseClosed, "there is nothing to refuse in this case"};
  const Refusal refusal{.authority = state.control.origin().get(),
                        .case_id = case_id,
                        .code = *found->second.refusable,
                        .request = found->second.opening_digest};
  return unsigned_entry(state.control, Kind::kRefusal, case_id, refusal, {}, time, nonce);
}

Result<Entry> compose_grant(const State& state, const CaseId& case_id, std::vector<Blob> activation,
                            UnixMillis time, const Nonce& nonce) {
  SP_TRY(const ClosableCase closable, find_closable(state, case_id, CaseType::kAccess, time));
  SP_TRY(const DecisionStatement decision, current_decision(state, *closable.one, *closable.policy));
  Grant grant{.approvals = {},
              .authority = state.control.origin().get(),
              .case_id = case_id,
              .decision = encode(decision)};
  for (const CountedApproval* approval : closable.approvals) grant.approvals.push_back(approval->digest);
  Entry entry =
      unsigned_entry(state.control, Kind::kGrant, case_id, grant, std::move(activation), time, nonce);
  SP_CHECK(check_fits(closable, entry));
  return entry;
}

Result<Entry> compose_enrolment(const State& state, const CaseId& case_id, UnixMillis time,
                                const Nonce& nonce) {
  SP_TRY(const ClosableCase closable, find_closable(state, case_id, CaseType::kEnrolment, time));
  SP_TRY(std::vector<Bytes> approvals, envelopes_of(closable.approvals));
  SP_TRY(Bytes request, envelope_of(closable.one->opening));
  const Enrolment enrolment{.approvals = std::move(approvals),
                            .authority = state.control.origin().get(),
                            .case_id = case_id,
                            .request = std::move(request)};
  return unsigned_entry(state.control, Kind::kEnrolment, case_id, enrolment, closable.one->opening.blobs,
                        time, nonce);
}

Result<Entry> compose_policy(const State& state, const CaseId& case_id, UnixMillis time, const Nonce& nonce) {
  SP_TRY(const ClosableCase closable, find_closable(state, case_id, CaseType::kPolicy, time));
  SP_TRY(std::vector<Bytes> approvals, envelopes_of(closable.approvals));
  SP_TRY(Bytes proposal, envelope_of(closable.one->opening));
  const PolicyInForce policy{.approvals = std::move(approvals),
                             .authority = state.control.origin().get(),
                             .case_id = case_id,
                             .digest = closable.one->proposal->digest,
                             .proposal = std::move(proposal),
                             .version = closable.one->proposal->version};
  return unsigned_entry(state.control, Kind::kPolicy, case_id, policy, closable.one->opening.blobs, time,
                        nonce);
}

Result<Entry> compose_erasure(const State& state, const CaseId& case_id, UnixMillis time,
                              const Nonce& nonce) {
  SP_TRY(const ClosableCase closable, find_closable(state, case_id, CaseType::kErasure, time));
  SP_TRY(std::vector<Bytes> approvals, envelopes_of(closable.approvals));
  SP_TRY(Bytes proposal, envelope_of(closable.one->opening));
  const Erasure erasure{.approvals = std::move(approvals),
                        .authority = state.control.origin().get(),
                        .case_id = case_id,
                        .proposal = std::move(proposal)};
  return unsigned_entry(state.control, Kind::kErasure, case_id, erasure, {}, time, nonce);
}

Result<Entry> compose_snapshot(const ControlState& control, UnixMillis time, const Nonce& nonce) {
  if (!control.is_whole())
    return Error{Code::kUnavailable, Reason::kLogSnapshot,
                 "cases that were erased are remembered still: their time is not over by this log's clock"};
  const std::optional<SnapshotMark>& before = control.newest_snapshot();
  if (before && time < before->time + kSnapshotGap)
    return Error{Code::kDenied, Reason::kRateLimited, "a snapshot too soon after the one before"};
  if (before && control.size().get() == before->index.get() + 1)
    return Error{Code::kConflict, Reason::kConflict, "nothing has happened since the last snapshot"};
  const Bytes encoded = encode_control(control);
  if (encoded.size() > kMaxControlBytes)
    return Error{Code::kUnavailable, Reason::kLogSnapshot, "the state is larger than a snapshot may be"};
  const Digest256 state = crypto::sha256(encoded);
  const std::uint64_t size = control.size().get();
  const Snapshot snapshot{.authority = control.origin().get(),
                          .case_id = snapshot_case(control.origin(), size, state),
                          .size = size,
                          .state = state};
  return unsigned_entry(control, Kind::kSnapshot, snapshot.case_id, snapshot, {}, time, nonce);
}

CaseId genesis_case(const Digest256& policy) {
  ByteArray<16> id;
  std::copy_n(policy.get().begin(), id.size(), id.begin());
  return CaseId{id};
}

namespace {
constexpr std::string_view kContinuationMagic = "spcont01";
}

Bytes encode_continuation(const Continuation& continuation) {
  Writer out;
  out.raw(kContinuationMagic).prefixed32(continuation.state).prefixed32(continuation.proposal);
  out.u8(static_cast<std::uint8_t>(continuation.approvals.size()));
  for (const Bytes& approval : continuation.approvals) out.prefixed32(approval);
  return std::move(out).take();
}

Result<Continuation> parse_continuation(ByteView bytes) {
  Reader in{bytes};
  SP_TRY(const ByteView magic, in.raw(kContinuationMagic.size()));
  if (as_text(magic) != kContinuationMagic) return Error{Code::kMalformed, "not a continuation of a log"};
  Continuation out;
  SP_TRY(const ByteView state, in.prefixed32(kMaxControlBytes));
  SP_TRY(const ByteView proposal, in.prefixed32(kMaxEnvelopeBytes));
  SP_TRY(const std::uint8_t count, in.u8());
  if (count > policy::kMaxQuorum) return Error{Code::kMalformed, "more approvals than a quorum has"};
  for (std::uint8_t i = 0; i < count; ++i) {
    SP_TRY(const ByteView approval, in.prefixed32(kMaxEnvelopeBytes));
    out.approvals.push_back(to_bytes(approval));
  }
  SP_CHECK(in.finish());
  out.state = to_bytes(state);
  out.proposal = to_bytes(proposal);
  return out;
}

CaseId continuation_case(const Digest256& policy) {
  return genesis_case(policy);
}

namespace {

Entry first_entry(Origin origin, PolicyDocument document, std::uint64_t version, const Continuation* before,
                  UnixMillis time, const Nonce& nonce) {
  const Digest256 digest = crypto::sha256(document.text);
  const ControlState empty = ControlState::begin(origin, digest);
  const PolicyInForce policy{.approvals = before == nullptr ? std::vector<Bytes>{} : before->approvals,
                             .authority = origin.get(),
                             .case_id = genesis_case(digest),
                             .digest = digest,
                             .proposal = before == nullptr ? Bytes{} : before->proposal,
                             .version = version};
  std::vector<Blob> blobs = blobs_of(std::move(document));
  if (before != nullptr) blobs.push_back({EvidenceType::kControlState, before->state});
  return unsigned_entry(empty, Kind::kPolicy, policy.case_id, policy, std::move(blobs), time, nonce);
}

}  // namespace

Entry compose_genesis(Origin origin, PolicyDocument policy, UnixMillis time, const Nonce& nonce) {
  return first_entry(std::move(origin), std::move(policy), 1, nullptr, time, nonce);
}

Result<Entry> compose_continued(Origin origin, PolicyDocument policy, const Continuation& before,
                                UnixMillis time, const Nonce& nonce) {
  SP_TRY(const policy::Policy parsed, policy::parse_policy(as_text(policy.text)));
  return first_entry(std::move(origin), std::move(policy), parsed.version, &before, time, nonce);
}

}  // namespace sallyport::record
