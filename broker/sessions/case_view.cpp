#include "broker/sessions/case_view.h"

#include "attestation/base/hex.h"
#include "attestation/policy/quorum.h"
#include "attestation/record/appraise.h"

namespace sallyport::sessions {
namespace {

using record::Case;
using record::CaseState;
using record::CaseType;

std::string_view type_name(CaseType type) {
  switch (type) {
    case CaseType::kAccess:
      return "access";
    case CaseType::kPolicy:
      return "policy";
    case CaseType::kEnrolment:
      return "enrolment";
    case CaseType::kRevocation:
      return "revocation";
    case CaseType::kErasure:
      return "erasure";
    case CaseType::kHold:
      return "hold";
  }
  return "access";
}

// question_of gives the quorum that a case waits for.
std::optional<policy::QuorumQuestion> question_of(const record::State& state, const Case& one) {
  const auto policy = state.control.policy();
  if (!policy) return std::nullopt;
  if (one.decision) return record::quorum_question(*one.decision);
  if (one.type == CaseType::kPolicy) return policy::QuorumQuestion{policy->policy.authority.change, {}};
  if (one.type == CaseType::kEnrolment)
    return policy::QuorumQuestion{policy->policy.authority.enrol, {PersonId{opener(one)}}};
  if (const auto& right = policy->policy.authority.erase; right && one.type == CaseType::kErasure)
    return policy::QuorumQuestion{right->quorum, {}};
  return std::nullopt;
}

}  // namespace

std::string_view state_name(const Case& one, UnixMillis now) {
  switch (one.state) {
    case CaseState::kRefusable:
      return "refused";
    case CaseState::kRefused:
      return "refused";
    case CaseState::kDenied:
      return "denied";
    case CaseState::kGranted:
      return "granted";
    case CaseState::kClosed:
      return "closed";
    case CaseState::kOpen:
      return now >= one.expires ? "expired" : "open";
  }
  return "closed";
}

const std::string& opener(const Case& one) {
  static const std::string kNobody;
  if (one.request) return one.request->person;
  if (one.enrolment) return one.enrolment->person;
  if (one.proposal) return one.proposal->person;
  if (one.erasure) return one.erasure->person;
  return kNobody;
}

bool is_reader(const record::State& state, const std::optional<PersonId>& person) {
  const auto policy = state.control.policy();
  if (!policy || !person) return false;
  const policy::Person* found = policy::find_person(policy->policy, *person);
  return found != nullptr && policy::is_member(*found, policy->policy.authority.readers);
}

bool may_see(const record::State& state, const Case& one, const Peer& peer) {
  if (!peer.person) return peer.host && one.request && one.request->host == *peer.host;
  if (opener(one) == peer.person->get()) return true;
  if (one.request && one.request->beneficiary == peer.person->get()) return true;
  if (is_reader(state, peer.person)) return true;
  const auto question = question_of(state, one);
  return question &&
         !policy::eligible_clauses(state.control.policy()->policy, *question, *peer.person).empty();
}

std::string may_approve_as(const record::State& state, const Case& one, const PersonId& person,
                           UnixMillis now) {
  if (one.state != CaseState::kOpen || now >= one.expires) return {};
  for (const auto& approval : one.approvals)
    if (approval.statement.approver == person.get()) return {};
  const auto question = question_of(state, one);
  if (!question) return {};
  const auto clauses = policy::eligible_clauses(state.control.policy()->policy, *question, person);
  return clauses.empty() ? std::string{} : question->quorum[clauses.front()].group.get();
}

api::CaseView summary_of(const record::State& state, const Case& one, const Peer& peer, UnixMillis now) {
  api::CaseView view;
  view.case_id = one.id;
  view.kind = type_name(one.type);
  view.state = state_name(one, now);
  view.code = one.refusable;
  view.detail = one.detail;
  view.opened = one.opened;
  view.expires = one.expires;
  view.person = opener(one);
  if (one.request) {
    view.beneficiary = one.request->beneficiary;
    view.resource = one.request->resource;
    view.host = one.request->host;
    view.account = one.decision ? one.decision->account : one.request->account;
    view.reason = one.request->reason;
  }
  if (one.decision)
    for (const std::string& rule : one.decision->rules) view.rule += (view.rule.empty() ? "" : " + ") + rule;
  if (one.enrolment) {
    view.resource = one.enrolment->name;
    view.host = one.enrolment->region;
  }
  if (one.proposal) view.resource = "policy version " + std::to_string(one.proposal->version);
  if (one.erasure) {
    view.resource = "erase " + std::to_string(one.erasure->cases.size()) + " cases";
    view.reason = one.erasure->reason;
  }
  if (one.state == CaseState::kOpen) view.to_approve = to_hex(one.to_approve);
  for (const auto& approval : one.approvals)
    view.approvals.push_back(
        {approval.statement.approver, approval.attested, approval.index.get(), approval.statement.time});
  if (const auto progress = record::quorum_progress(state, one.id, now); progress.has_value())
    for (const auto& clause : progress->clauses)
      view.quorum.push_back({clause.group, clause.have, clause.needed, clause.people});
  if (peer.person) view.may = may_approve_as(state, one, *peer.person, now);
  return view;
}

}  // namespace sallyport::sessions
