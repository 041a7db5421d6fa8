#include <algorithm>
#include <utility>

#include "attestation/base/hex.h"
#include "attestation/record/fold.h"
#include "attestation/record/host_key.h"

namespace sallyport::record {
namespace {

Error mismatch(const char* what) {
  return Error{Code::kUnverified, Reason::kGrantMismatch, what};
}

UnixMillis report_grace(UnixMillis not_after) {
  return not_after + kMaxTimeSkew;
}

Entry without_attachments(const Entry& entry) {
  Entry out{.leaf = entry.leaf, .nonce = entry.nonce, .body = entry.body, .blobs = {}};
  for (const Blob& blob : entry.blobs)
    if (blob.type != EvidenceType::kAttachment) out.blobs.push_back(blob);
  return out;
}

Case new_case(const State& state, CaseType type, const Entry& entry, const OpenedStatement& statement) {
  Case one;
  one.id = entry.leaf.case_id;
  one.type = type;
  one.first = one.last = LeafIndex{state.control.size().get()};
  one.opened = entry.leaf.time;
  one.expires = one.opened + life_of(statement.body.kind);
  one.opening_digest = statement.digest;
  one.to_approve = statement.digest;
  one.opening = without_attachments(entry);
  if (!statement.envelope.signatures.empty()) one.token = statement.envelope.signatures.front().key;
  return one;
}

// find_case gives the case of a leaf whose place prepare_control has accepted.
Result<const Case*> find_case(const State& state, const CaseId& id) {
  const auto found = state.cases.find(id);
  if (found == state.cases.end()) return Error{Code::kDenied, Reason::kCaseUnknown, "there is no such case"};
  return &found->second;
}

// prove_boot gives what the machine has proved of its boot with this quote, recorded at `at`, too. One that
// may have been carried about tells nothing of the clock.
Result<std::pair<DeviceId, evidence::ProvenBoot>> prove_boot(const State& state, const DeviceId& device,
                                                             const evidence::VerifiedQuote& quote,
                                                             UnixMillis at, bool carried = false) {
  const evidence::ProofPoint now{quote.clock(), at};
  const std::uint64_t firmware = quote.firmware_version();
  const auto proved = state.boots.find(device);
  if (proved == state.boots.end()) {
    const evidence::ProvenBoot boot{now, firmware};
    return std::pair{device, carried ? boot.without_clock() : boot};
  }
  SP_TRY(evidence::ProvenBoot boot,
         carried ? proved->second.pass(now, firmware) : proved->second.follow(now, firmware));
  return std::pair{device, std::move(boot)};
}

// tells_of_boots: reasons of refusals that rest on what a machine's earlier requests have proved.
bool tells_of_boots(Reason reason) {
  return reason == Reason::kBootWentBack || reason == Reason::kDeviceStopped ||
         reason == Reason::kBootCounters || reason == Reason::kClockRate;
}

Status check_live_grant(const State& state, const Case& one) {
  const ControlState& control = state.control;
  const policy::Policy& policy = control.policy()->policy;
  SP_CHECK(control.check_signer(policy, one.request->person, one.token));
  if (control.is_revoked_person(one.request->beneficiary))
    return Error{Code::kDenied, Reason::kRevoked, "the beneficiary is revoked"};
  SP_CHECK(live_device(control, one.request->device));
  SP_CHECK(check_not_stopped(state, one.request->device));
  for (const CountedApproval& approval : one.approvals) {
    if (std::find(one.granted_by.begin(), one.granted_by.end(), approval.digest) == one.granted_by.end())
      continue;
    if (!control.check_signer(policy, approval.statement.approver, approval.token))
      return Error{Code::kDenied, Reason::kApprovalRevoked, "an approver of the grant is revoked"};
  }
  return Done{};
}

Result<Case> prepare_request(const State& state, const Entry& entry, const OpenedStatement& statement,
                             BootEffect& boot) {
  const ControlState& control = state.control;
  const LoadedPolicy& policy = *control.policy();
  SP_TRY(RequestClaim claim, verify_request_claim(control, policy, statement));
  SP_CHECK(check_request_items(statement.body, statement.blobs));
  Case one = new_case(state, CaseType::kAccess, entry, statement);
  const DeviceId device = claim.request.device;
  const auto judge = [&]() -> Result<EvaluatedRequest> {
    SP_CHECK(live_device(control, device));
    SP_CHECK(check_not_stopped(state, device));
    Appraisal appraisal =
        appraise_request(control, policy, claim, statement.body, statement.blobs, control.size().get());
    one.limited = std::move(appraisal.limited);
    // Whatever else becomes of the request, it proves where the machine's counters are.
    if (appraisal.quote) {
      SP_CHECK(check_since_enrolment(control.find_device(device)->clock, appraisal.quote->clock()));
      SP_TRY(boot.proved, prove_boot(state, device, *appraisal.quote, entry.leaf.time));
    }
    return std::move(appraisal.outcome);
  };
  auto good = judge();
  if (good) {
    one.to_approve = decision_digest(good->decision_payload);
    one.decision = std::move(good->decision);
    one.quote = std::move(good->quote);
  } else {
    one.state = CaseState::kRefusable;
    one.refusable = good.error().reason;
    one.detail = good.error().what;
    if (one.refusable == Reason::kBootWentBack) boot.stopped = {device, {one.id, one.first}};
  }
  one.request = std::move(claim.request);
  return one;
}

Result<Case> prepare_proposal(const State& state, const Entry& entry, const OpenedStatement& statement) {
  const LoadedPolicy& current = *state.control.policy();
  SP_TRY(PolicyProposed proposal, parse_policy_proposed(statement.envelope.payload));
  SP_CHECK(check_header(state.control.origin(), proposal.authority, proposal.case_id, statement.body));
  SP_CHECK(verify_person(state.control, current.policy, statement.envelope, proposal.person));
  SP_CHECK(check_time(proposal.time, statement.body.time));
  if (proposal.previous != current.policy.digest || proposal.version != current.policy.version + 1)
    return Error{Code::kDenied, Reason::kPolicyNotSuccessor, "not the successor of the policy in force"};
  SP_TRY(PolicyDocument document, policy_document(statement.body, statement.blobs));
  SP_TRY(const LoadedPolicy next, load_policy(std::move(document), state.control.origin(), LeafIndex{0}));
  if (next.policy.digest != proposal.digest)
    return Error{Code::kUnverified, Reason::kPolicyInvalid, "the text is of another policy"};
  SP_CHECK(policy::check_successor(current.policy, next.policy));
  Case one = new_case(state, CaseType::kPolicy, entry, statement);
  one.proposal = std::move(proposal);
  return one;
}

Result<Case> prepare_erasure_proposal(const State& state, const Entry& entry,
                                      const OpenedStatement& statement) {
  const LoadedPolicy& current = *state.control.policy();
  SP_CHECK(check_only(statement.body, {}));
  SP_TRY(ErasureProposed proposal, parse_erasure_proposed(statement.envelope.payload));
  SP_CHECK(check_header(state.control.origin(), proposal.authority, proposal.case_id, statement.body));
  SP_CHECK(verify_person(state.control, current.policy, statement.envelope, proposal.person));
  SP_CHECK(check_time(proposal.time, statement.body.time));
  SP_CHECK(check_erasable(state.control, current.policy, proposal, entry.leaf.time));
  // A broker that starts anew must know of every machine that is stopped still.
  for (const auto& [device, stop] : state.stopped)
    if (live_device(state.control, device).has_value() &&
        std::binary_search(proposal.cases.begin(), proposal.cases.end(), stop.case_id))
      return Error{
          Code::kDenied, Reason::kErasureHeld,
          "a case shows that a machine's counters went back: enrol that one again first, or retire it"};
  Case one = new_case(state, CaseType::kErasure, entry, statement);
  one.erasure = std::move(proposal);
  return one;
}

// A case that is over as it begins.
Case closed_case(const State& state, CaseType type, const Entry& entry, const OpenedStatement& statement) {
  Case one = new_case(state, type, entry, statement);
  one.state = CaseState::kClosed;
  one.opening = {};
  return one;
}

Result<Case> prepare_enrolment_request(const State& state, const Entry& entry,
                                       const OpenedStatement& statement) {
  const LoadedPolicy& current = *state.control.policy();
  SP_TRY(EnrolmentRequested request, parse_enrolment_requested(statement.envelope.payload));
  SP_CHECK(check_header(state.control.origin(), request.authority, request.case_id, statement.body));
  SP_CHECK(verify_person(state.control, current.policy, statement.envelope, request.person));
  SP_CHECK(check_time(request.time, statement.body.time));
  SP_CHECK(verify_enrolment(state.control, current, request, statement.digest, statement.body,
                            statement.blobs, LeafIndex{state.control.size().get()}));
  Case one = new_case(state, CaseType::kEnrolment, entry, statement);
  one.enrolment = std::move(request);
  return one;
}

Kind opening_kind(CaseType type) {
  switch (type) {
    case CaseType::kPolicy:
      return Kind::kPolicyProposed;
    case CaseType::kEnrolment:
      return Kind::kEnrolmentRequested;
    case CaseType::kErasure:
      return Kind::kErasureProposed;
    default:
      return Kind::kRequest;
  }
}

Result<CountedApproval> prepare_approval(const State& state, const Entry& entry,
                                         const OpenedStatement& statement, BootEffect& boot) {
  const LoadedPolicy& policy = *state.control.policy();
  SP_TRY(const Case* one, find_open_case(state, entry.leaf.case_id));
  if (one->proposal && one->proposal->previous != policy.policy.digest)
    return Error{Code::kDenied, Reason::kPolicyNotSuccessor, "another policy came into force meanwhile"};
  SP_TRY(VerifiedApproval approval, verify_approval(state.control, policy, statement,
                                                    {.case_id = one->id,
                                                     .to_approve = one->to_approve,
                                                     .max_life = life_of(opening_kind(one->type)),
                                                     .by_list = one->type == CaseType::kEnrolment,
                                                     .max_size = state.control.size().get()}));
  const PersonId person{approval.statement.approver};
  for (const CountedApproval& earlier : one->approvals)
    if (earlier.statement.approver == person.get())
      return Error{Code::kDenied, Reason::kApprovalDuplicate, "this person has approved this case"};
  if (const auto why = policy::why_not_eligible(policy.policy, question_of(*one, policy), person,
                                                approval.quote.has_value()))
    return Error{Code::kDenied, *why, "this person's approval cannot count"};
  if (approval.quote) {
    const DeviceId& device = *approval.statement.device;
    SP_CHECK(check_not_stopped(state, device));
    SP_TRY(boot.proved, prove_boot(state, device, *approval.quote, entry.leaf.time, true));
  }
  return CountedApproval{.index = LeafIndex{state.control.size().get()},
                         .statement = std::move(approval.statement),
                         .digest = approval.digest,
                         .token = approval.token,
                         .attested = approval.quote.has_value(),
                         .entry = entry};
}

// A denial counts when it comes from somebody who could approve, or from whoever opened the case.
Status check_denial(const State& state, const Case& one, const Denial& denial) {
  const std::string& opener = one.request     ? one.request->person
                              : one.enrolment ? one.enrolment->person
                              : one.erasure   ? one.erasure->person
                                              : one.proposal->person;
  if (denial.approver == opener) return Done{};
  const LoadedPolicy& policy = *state.control.policy();
  if (one.request && !one.decision)
    return Error{Code::kDenied, Reason::kApprovalNotEligible, "nobody can approve this case"};
  if (const auto why =
          policy::why_not_eligible(policy.policy, question_of(one, policy), PersonId{denial.approver}, true))
    return Error{Code::kDenied, *why, "this person cannot deny the case"};
  return Done{};
}

Status check_refusal(const State& state, const OpenedStatement& statement, BootEffect& boot) {
  SP_CHECK(check_only(statement.body, {}));
  SP_TRY(const Refusal refusal, parse_refusal(statement.envelope.payload));
  SP_CHECK(check_header(state.control.origin(), refusal.authority, refusal.case_id, statement.body));
  SP_TRY(const Case* one, find_case(state, refusal.case_id));
  // What an erased request has proved of a machine's boots is not known any more: that this one does not
  // follow it was judged when it was, before anything else that may be wrong with it.
  const bool waits = one->state == CaseState::kOpen && one->approvals.empty();
  const bool of_erased = state.lacks_boots && tells_of_boots(refusal.code) &&
                         (waits || (one->state == CaseState::kRefusable && refusal.code != *one->refusable));
  if (of_erased && refusal.request == one->opening_digest) {
    const bool stops = refusal.code == Reason::kBootWentBack;
    if (stops || refusal.code == Reason::kDeviceStopped)
      boot.stopped = {one->request->device, {one->id, stops ? std::optional{one->first} : std::nullopt}};
    else
      boot.disproved = one->request->device;
    boot.refused = refusal.code;
    return Done{};
  }
  if (one->state != CaseState::kRefusable)
    return Error{Code::kDenied, Reason::kCaseClosed, "there is nothing to refuse in this case"};
  if (refusal.code != *one->refusable || refusal.request != one->opening_digest)
    return Error{Code::kUnverified, "the refusal is not the one that follows from the request"};
  return Done{};
}

Result<std::vector<Digest256>> prepare_grant(const State& state, const Entry& entry,
                                             const OpenedStatement& statement, const Grant& grant,
                                             BootEffect& boot) {
  const LoadedPolicy& policy = *state.control.policy();
  SP_TRY(const Case* one, find_open_case(state, grant.case_id));
  SP_TRY(const DecisionStatement decision, current_decision(state, *one, policy));
  if (encode(decision) != grant.decision) return mismatch("the grant's decision is not the case's");

  const StandingApprovals now = standing(state, *one, policy, entry.leaf.time);
  for (const Digest256& digest : grant.approvals) {
    const auto is_it = [&](const auto& known) { return known.digest == digest; };
    const auto is_standing = [&](const Standing& known) { return known.approval->digest == digest; };
    if (std::none_of(one->approvals.begin(), one->approvals.end(), is_it))
      return Error{Code::kDenied, Reason::kApprovalOtherDecision,
                   "the grant names an approval that is not of its case"};
    if (std::none_of(now.approvals.begin(), now.approvals.end(), is_standing))
      return now.lost.value_or(
          Error{Code::kDenied, Reason::kQuorumNotMet, "an approval does not count any more"});
  }
  SP_TRY(const auto counted, closing_approvals(state, *one, policy, entry.leaf.time));
  std::vector<Digest256> expected;
  for (const CountedApproval* approval : counted) expected.push_back(approval->digest);
  if (grant.approvals != expected)
    return Error{Code::kDenied, Reason::kQuorumNotMet,
                 "the grant does not name the approvals that fill the quorum"};

  SP_TRY(const evidence::VerifiedQuote quote,
         verify_activation(state.control, policy, statement.body, statement.blobs,
                           {.request = *one->request,
                            .request_digest = one->opening_digest,
                            .request_quote = *one->quote,
                            .request_time = one->opened,
                            .network = decision.network,
                            .max_size = state.control.size().get()}));
  SP_TRY(boot.proved, prove_boot(state, one->request->device, quote, entry.leaf.time));
  return expected;
}

// The envelopes that a closing policy or enrolment must embed.
Status check_embedded(const State& state, const Case& one, const LoadedPolicy& policy, const Entry& entry,
                      const OpenedStatement& statement, const Bytes& opening,
                      const std::vector<Bytes>& approvals) {
  SP_TRY(const Body opened, parse_body(one.opening.body));
  if (opened.envelope != opening || opened.items != statement.body.items)
    return mismatch("what is closed is not what was opened");
  SP_TRY(const auto counted, closing_approvals(state, one, policy, entry.leaf.time));
  if (counted.size() != approvals.size()) return mismatch("other approvals than those that fill the quorum");
  for (std::size_t i = 0; i < counted.size(); ++i) {
    SP_TRY(const Body body, parse_body(counted[i]->entry.body));
    if (body.envelope != approvals[i]) return mismatch("other approvals than those that fill the quorum");
  }
  return Done{};
}

Status check_lease(const State& state, const Entry& entry, const OpenedStatement& statement) {
  SP_CHECK(check_only(statement.body, {}));
  const policy::Policy& policy = state.control.policy()->policy;
  SP_TRY(const Lease lease, parse_lease(statement.envelope.payload));
  SP_CHECK(check_header(state.control.origin(), lease.authority, lease.case_id, statement.body));
  SP_CHECK(verify_signers(statement.envelope, {policy.authority.keys.lease}, state.control.known()));
  SP_CHECK(check_time(lease.time, entry.leaf.time));
  SP_TRY(const Case* one, find_case(state, lease.case_id));
  if (lease.account != one->decision->account)
    return Error{Code::kDenied, Reason::kLeaseUser, "the lease is for another account"};
  if (lease.host != one->decision->host)
    return Error{Code::kDenied, Reason::kLeaseHost, "the lease is for another host"};
  return check_live_grant(state, *one);
}

// Report is a channel of a session, and the host's key that reported it.
struct Report {
  std::uint64_t channel;
  crypto::PublicKey host_key;
};

Result<crypto::PublicKey> check_host(const State& state, const Case& one, const OpenedStatement& statement,
                                     const std::string& host) {
  if (host != one.decision->host)
    return Error{Code::kDenied, Reason::kGateHost, "the report is of another host"};
  const auto known = policy::find_host(state.control.policy()->policy, host);
  if (!known) return Error{Code::kDenied, Reason::kGateHost, "the policy has no such host"};
  const std::vector<EnvelopeSignature>& signatures = statement.envelope.signatures;
  const auto learned =
      signatures.empty() ? state.host_keys.end() : state.host_keys.find(signatures.front().key);
  return verify_host_signature(statement.envelope, known->host->keys,
                               learned == state.host_keys.end() ? nullptr : &learned->second,
                               state.control.known());
}

Result<Report> check_session_opened(const State& state, const Entry& entry,
                                    const OpenedStatement& statement) {
  SP_CHECK(check_only(statement.body, {}));
  SP_TRY(const SessionOpened report, parse_session_opened(statement.envelope.payload));
  SP_CHECK(check_header(state.control.origin(), report.authority, report.case_id, statement.body));
  SP_TRY(const Case* one, find_case(state, report.case_id));
  SP_TRY(const crypto::PublicKey host_key, check_host(state, *one, statement, report.host));
  SP_CHECK(check_time(report.time, entry.leaf.time));
  const GrantMark grant = *state.control.find_grant(one->id);
  if (report.time >= grant.not_after || report.time + kMaxTimeSkew < grant.not_before)
    return Error{Code::kDenied, Reason::kGrantExpired, "opened outside of the grant's time"};
  if (report.account != one->decision->account)
    return Error{Code::kDenied, Reason::kGateAccount, "the account is not the grant's"};
  if (report.channel != one->sessions + 1)
    return Error{Code::kConflict, Reason::kLogOrder, "the channel's number is not the next"};
  return Report{report.channel, host_key};
}

Result<Report> check_session_closed(const State& state, const Entry& entry,
                                    const OpenedStatement& statement) {
  SP_CHECK(check_only(statement.body, {}));
  SP_TRY(const SessionClosed report, parse_session_closed(statement.envelope.payload));
  SP_CHECK(check_header(state.control.origin(), report.authority, report.case_id, statement.body));
  SP_TRY(const Case* one, find_case(state, report.case_id));
  SP_TRY(const crypto::PublicKey host_key, check_host(state, *one, statement, report.host));
  SP_CHECK(check_time(report.time, entry.leaf.time));
  if (std::find(one->open_channels.begin(), one->open_channels.end(), report.channel) ==
      one->open_channels.end())
    return Error{Code::kConflict, Reason::kLogOrder, "no such channel is open"};
  return Report{report.channel, host_key};
}

// drop_entries makes a case that is over small.
void drop_entries(Case& one) {
  one.opening = {};
  one.closing.reset();
  for (CountedApproval& approval : one.approvals) approval.entry = {};
}

void drop_what_is_over(State& state) {
  while (!state.over.empty() && state.over.begin()->first <= state.control.last_time()) {
    const CaseId id = state.over.begin()->second;
    state.over.erase(state.over.begin());
    if (const auto found = state.cases.find(id); found != state.cases.end()) {
      const auto grant = state.control.find_grant(id);
      if (!grant || report_grace(grant->not_after) <= state.control.last_time()) drop_entries(found->second);
    }
  }
}

}  // namespace

Status check_not_stopped(const State& state, const DeviceId& device) {
  if (state.stopped.contains(device))
    return Error{Code::kDenied, Reason::kDeviceStopped,
                 "its TPM's counters went back; administrators have to look, and enrol it again"};
  return Done{};
}

Result<const Case*> find_open_case(const State& state, const CaseId& case_id) {
  SP_TRY(const Case* one, find_case(state, case_id));
  switch (one->state) {
    case CaseState::kOpen:
      return one;
    case CaseState::kRefusable:
    case CaseState::kRefused:
      return Error{Code::kDenied, *one->refusable, one->detail};
    case CaseState::kDenied:
      return Error{Code::kDenied, Reason::kCaseDenied, "the case is denied"};
    case CaseState::kGranted:
      return Error{Code::kConflict, Reason::kGrantExists, "the case has its one grant"};
    case CaseState::kClosed:
      break;
  }
  return Error{Code::kDenied, Reason::kCaseClosed, "the case is closed"};
}

policy::QuorumQuestion question_of(const Case& one, const LoadedPolicy& policy) {
  switch (one.type) {
    case CaseType::kAccess:
      return quorum_question(*one.decision);
    case CaseType::kPolicy:
      return {.quorum = policy.policy.authority.change, .excluded = {}};
    case CaseType::kErasure: {  // nobody may, where the policy does not say who
      const std::optional<policy::EraseRight>& right = policy.policy.authority.erase;
      return {.quorum = right ? right->quorum : policy::Quorum{}, .excluded = {}};
    }
    default:
      return {.quorum = policy.policy.authority.enrol, .excluded = {}};
  }
}

// again_under tells what of a machine's evidence, accepted at the leaf `index`, is to be judged again under
// `policy`: all of it; or but its quotes, where the same document of reference values would judge the same
// log and list for the same enrolment, as of the same leaf.
DossierForm again_under(const ControlState& control, const LoadedPolicy& policy, const Device& device,
                        LeafIndex index) {
  const auto then = control.policy_at(index);
  const bool same = then->policy.authority.references == policy.policy.authority.references;
  return same && device.enrolled < index ? DossierForm::kTravel : DossierForm::kFull;
}

StandingApprovals standing(const State& state, const Case& one, const LoadedPolicy& policy, UnixMillis at) {
  const ControlState& control = state.control;
  StandingApprovals out;
  for (const CountedApproval& approval : one.approvals) {
    const auto still_counts = [&]() -> Result<bool> {  // with a machine's proof, or without
      if (at >= approval.statement.expires)
        return Error{Code::kDenied, Reason::kApprovalExpired, "an approval has expired"};
      if (!control.check_signer(policy.policy, approval.statement.approver, approval.token)) {
        const bool gone =
            policy::find_person(policy.policy, PersonId{approval.statement.approver}) == nullptr ||
            !policy::find_token(policy.policy, approval.token);
        return Error{Code::kDenied, gone ? Reason::kApprovalForeignKey : Reason::kApprovalRevoked,
                     "an approver or a token is gone"};
      }
      if (approval.attested) {
        SP_TRY(const Device* device, live_device(control, *approval.statement.device));
        SP_CHECK(check_not_stopped(state, device->id));
        if (device->enrolled > approval.index)
          return Error{Code::kDenied, Reason::kBootCounters,
                       "an approver's machine was enrolled again since"};
        if (control.policy_at(approval.index)->policy.digest !=
            policy.policy.digest) {  // other witnesses, perhaps
          SP_TRY(Body body, parse_body(approval.entry.body));
          SP_TRY(const OpenedStatement statement, open_statement(std::move(body), approval.entry.blobs));
          SP_CHECK(verify_approval(control, policy, statement,
                                   {.case_id = one.id,
                                    .to_approve = one.to_approve,
                                    .max_life = kPolicyLife,
                                    .max_size = approval.index.get(),
                                    .form = again_under(control, policy, *device, approval.index)}));
        }
      }
      return approval.attested;
    };
    const auto counts = still_counts();
    if (!counts) {
      if (!out.lost) out.lost = counts.error();
      continue;
    }
    const PersonId person{approval.statement.approver};
    if (const auto why = policy::why_not_eligible(policy.policy, question_of(one, policy), person, *counts)) {
      if (!out.lost) out.lost = Error{Code::kDenied, *why, "an approver is not eligible any more"};
      continue;
    }
    out.approvals.push_back({&approval, {person, *counts}});
  }
  return out;
}

Result<std::vector<const CountedApproval*>> closing_approvals(const State& state, const Case& one,
                                                              const LoadedPolicy& policy, UnixMillis at) {
  if (one.type == CaseType::kErasure)
    SP_CHECK(check_erasable(state.control, policy.policy, *one.erasure, at));
  const StandingApprovals now = standing(state, one, policy, at);
  std::vector<policy::CandidateApproval> candidates;
  for (const Standing& approval : now.approvals) candidates.push_back(approval.candidate);
  const policy::QuorumProgress progress =
      policy::check_quorum(policy.policy, question_of(one, policy), candidates);
  if (!progress.met) {
    if (now.lost) return *now.lost;
    return Error{Code::kDenied, Reason::kQuorumNotMet, "the quorum is not met"};
  }
  std::vector<const CountedApproval*> out;
  for (std::size_t i = 0; i < now.approvals.size(); ++i)
    if (progress.approvals[i].clause) out.push_back(now.approvals[i].approval);
  return out;
}

Result<DecisionStatement> current_decision(const State& state, const Case& one, const LoadedPolicy& policy) {
  const ControlState& control = state.control;
  SP_CHECK(control.check_signer(policy.policy, one.request->person, one.token));
  if (control.is_revoked_person(one.request->beneficiary))
    return Error{Code::kDenied, Reason::kRevoked, "the beneficiary is revoked"};
  SP_TRY(const Device* device, live_device(control, one.request->device));
  SP_CHECK(check_not_stopped(state, device->id));
  if (one.decision->policy == policy.policy.digest) return *one.decision;

  SP_TRY(const Body body, parse_body(one.opening.body));
  // Attachments are not read; that the items are those of the request was checked when it was prepared.
  const auto again = evaluate_request(control, policy, body, one.opening.blobs,
                                      again_under(control, policy, *device, one.first));
  if (!again)
    return Error{Code::kDenied, Reason::kPolicyChanged,
                 "refused by the policy in force: " + again.error().what};
  DecisionStatement as_before = again->decision;
  as_before.policy = one.decision->policy;
  if (encode(as_before) != encode(*one.decision))
    return Error{Code::kDenied, Reason::kPolicyChanged, "the policy in force decides otherwise"};
  return again->decision;
}

Prepared::Prepared() = default;
Prepared::Prepared(Prepared&&) noexcept = default;
Prepared& Prepared::operator=(Prepared&&) noexcept = default;
Prepared::~Prepared() = default;

Result<Prepared> Fold::prepare(const State& state, const Entry& entry) {
  SP_TRY(const Kind kind, parse_kind(entry.leaf.kind));
  SP_CHECK(check_place(state.control, entry.leaf, kind));  // before any hashing
  SP_TRY(const OpenedStatement statement, open_statement(entry));
  return prepare(state, entry, statement);
}

Result<Prepared> Fold::prepare(const State& state, const Entry& entry, const OpenedStatement& statement) {
  SP_TRY(PreparedControl control, prepare(state.control, entry.leaf, &entry, &statement));
  const Kind kind = control.change_->kind;
  const ControlEffect& effect = control.change_->effect;
  const bool genesis = state.control.policy() == nullptr;

  Prepared prepared;
  prepared.change_.reset(
      new Prepared::Change{std::move(control), statement.digest, {}, {}, {}, {}, {}, {}, {}, {}});
  Prepared::Change& change = *prepared.change_;
  const auto find_closing_case = [&]() -> Result<const Case*> {
    return find_open_case(state, entry.leaf.case_id);
  };
  switch (kind) {
    case Kind::kRequest: {
      SP_TRY(change.opened, prepare_request(state, entry, statement, change.boot));
      break;
    }
    case Kind::kPolicyProposed: {
      SP_TRY(change.opened, prepare_proposal(state, entry, statement));
      break;
    }
    case Kind::kEnrolmentRequested: {
      SP_TRY(change.opened, prepare_enrolment_request(state, entry, statement));
      break;
    }
    case Kind::kErasureProposed: {
      SP_TRY(change.opened, prepare_erasure_proposal(state, entry, statement));
      break;
    }
    case Kind::kRevocation:
      change.opened = closed_case(state, CaseType::kRevocation, entry, statement);
      break;
    case Kind::kHold:
    case Kind::kHoldLifted:
      change.opened = closed_case(state, CaseType::kHold, entry, statement);
      break;
    case Kind::kApproval:
    case Kind::kListApproval: {
      SP_TRY(change.approval, prepare_approval(state, entry, statement, change.boot));
      break;
    }
    case Kind::kDenial: {
      SP_TRY(const Case* one, find_case(state, entry.leaf.case_id));
      SP_CHECK(check_denial(state, *one, *effect.denial));
      break;
    }
    case Kind::kRefusal:
      SP_CHECK(check_refusal(state, statement, change.boot));
      break;
    case Kind::kGrant: {
      SP_TRY(change.granted_by, prepare_grant(state, entry, statement, *effect.grant, change.boot));
      change.closing = entry;
      break;
    }
    case Kind::kPolicy: {
      if (genesis) break;
      SP_TRY(const Case* one, find_closing_case());
      SP_CHECK(check_embedded(state, *one, *state.control.policy(), entry, statement,
                              effect.policy_statement->proposal, effect.policy_statement->approvals));
      break;
    }
    case Kind::kEnrolment: {
      SP_TRY(const Case* one, find_closing_case());
      // Who approved has seen the machine as it was when this was asked for.
      const auto stop = state.stopped.find(effect.device->id);
      if (stop != state.stopped.end() && stop->second.since && *stop->second.since > one->first)
        return Error{Code::kConflict, Reason::kDeviceExists,
                     "the machine's counters went back since this was asked for; ask anew"};
      SP_CHECK(check_embedded(state, *one, *state.control.policy(), entry, statement,
                              effect.enrolment_statement->request, effect.enrolment_statement->approvals));
      break;
    }
    case Kind::kErasure: {
      SP_TRY(const Case* one, find_closing_case());
      SP_CHECK(check_embedded(state, *one, *state.control.policy(), entry, statement,
                              effect.erasure_statement->proposal, effect.erasure_statement->approvals));
      break;
    }
    case Kind::kLease:
      SP_CHECK(check_lease(state, entry, statement));
      break;
    case Kind::kSnapshot:
      break;  // its case is over as it begins, and nobody's
    case Kind::kSessionOpened: {
      SP_TRY(Report report, check_session_opened(state, entry, statement));
      change.session_opened = report.channel;
      change.host_key = std::move(report.host_key);
      break;
    }
    case Kind::kSessionClosed: {
      SP_TRY(Report report, check_session_closed(state, entry, statement));
      change.session_closed = report.channel;
      change.host_key = std::move(report.host_key);
      break;
    }
  }
  return prepared;
}

Result<Prepared> Fold::prepare_erased(const State& state, const ledger::Leaf& leaf) {
  SP_TRY(PreparedControl control, prepare_erased(state.control, leaf));
  Prepared prepared;
  prepared.change_.reset(new Prepared::Change{std::move(control), {}, {}, {}, {}, {}, {}, {}, {}, {}});
  return prepared;
}

void Fold::commit(State& state, Prepared prepared) {
  Prepared::Change& change = *prepared.change_;
  const PreparedControl::Change& control = *change.control.change_;
  const Kind kind = control.kind;
  const ledger::Leaf leaf = control.leaf;
  const LeafIndex index = control.index;
  std::optional<CaseId> revoked;
  if (kind == Kind::kRevocation && control.effect.revocation->kind == RevocationKind::kCase)
    revoked = *parse_case_id(control.effect.revocation->target);

  const bool erased = control.erased;
  // Administrators have looked at the machine as it is: what it proved before counts no more.
  if (kind == Kind::kEnrolment) {
    state.boots.erase(control.effect.device->id);
    state.stopped.erase(control.effect.device->id);
  }
  // Whoever replays without what is erased has only later proofs; from here on everybody has the same.
  if (kind == Kind::kErasure) {
    const UnixMillis kept = control.effect.erasure->before + kAccessLife;
    for (auto one = state.boots.begin(); one != state.boots.end();) {
      const auto left = one->second.since(kept);
      if (left) one->second = *left;
      one = left ? std::next(one) : state.boots.erase(one);
    }
  }
  const std::vector<CaseId> forgotten = commit(state.control, std::move(change.control));
  if (!erased)
    state.statements[leaf.case_id].emplace(change.digest, index);
  else if (kind == Kind::kRequest)
    state.lacks_boots = true;
  if (change.host_key) state.host_keys.emplace(change.host_key->id(), *change.host_key);
  if (auto& proved = change.boot.proved)
    state.boots.insert_or_assign(proved->first, std::move(proved->second));
  if (change.boot.disproved)
    if (const auto known = state.boots.find(*change.boot.disproved); known != state.boots.end())
      known->second = known->second.without_clock();
  if (const auto& stopped = change.boot.stopped) {
    const auto [known, is_new] = state.stopped.insert(*stopped);
    if (!is_new && !stopped->second.since) known->second.since.reset();
  }
  if (change.opened) {
    state.over.emplace(change.opened->expires, leaf.case_id);
    state.cases.insert_or_assign(leaf.case_id, std::move(*change.opened));
  } else if (const auto found = state.cases.find(leaf.case_id); found != state.cases.end()) {
    Case& one = found->second;
    one.last = index;
    switch (kind) {
      case Kind::kApproval:
      case Kind::kListApproval:
        one.approvals.push_back(std::move(*change.approval));
        break;
      case Kind::kRefusal:
        one.state = CaseState::kRefused;
        if (change.boot.refused) one.refusable = change.boot.refused;
        drop_entries(one);
        break;
      case Kind::kDenial:
        one.state = CaseState::kDenied;
        if (!one.closing_index) drop_entries(one);
        break;
      case Kind::kGrant:
        one.state = CaseState::kGranted;
        one.closing = std::move(change.closing);
        one.closing_index = index;
        one.granted_by = std::move(change.granted_by);
        state.over.emplace(report_grace(state.control.find_grant(one.id)->not_after), leaf.case_id);
        break;
      case Kind::kPolicy:
      case Kind::kEnrolment:
      case Kind::kErasure:
        one.state = CaseState::kClosed;
        one.closing_index = index;
        drop_entries(one);
        break;
      case Kind::kSessionOpened:
        one.sessions = *change.session_opened;
        one.open_channels.push_back(*change.session_opened);
        break;
      case Kind::kSessionClosed:
        std::erase(one.open_channels, *change.session_closed);
        break;
      default:
        break;
    }
  }
  if (revoked) {
    const auto target = state.cases.find(*revoked);
    if (target != state.cases.end() && target->second.state != CaseState::kRefused &&
        target->second.state != CaseState::kClosed)
      target->second.state = CaseState::kDenied;
  }
  drop_what_is_over(state);
  for (const CaseId& id : forgotten) {
    state.cases.erase(id);
    state.statements.erase(id);
  }
}

Result<Prepared> prepare(const State& state, const Entry& entry) {
  return Fold::prepare(state, entry);
}
Result<Prepared> prepare(const State& state, const OpenedEntry& entry) {
  return Fold::prepare(state, entry.entry(), entry.statement());
}
Result<Prepared> prepare_erased(const State& state, const ledger::Leaf& leaf) {
  return Fold::prepare_erased(state, leaf);
}
Result<ErasureProposed> parse_erased(const OpenedStatement& erasure) {
  SP_TRY(const Erasure statement, parse_erasure(erasure.envelope.payload));
  SP_TRY(const Envelope envelope, parse_envelope(statement.proposal));
  return parse_erasure_proposed(envelope.payload);
}
void commit(State& state, Prepared prepared) {
  Fold::commit(state, std::move(prepared));
}

}  // namespace sallyport::record
