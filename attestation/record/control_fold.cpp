#include <algorithm>
#include <utility>

#include "attestation/base/hex.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/fold.h"

namespace sallyport::record {
namespace {

Error out_of_order(const char* what) {
  return Error{Code::kConflict, Reason::kLogOrder, what};
}
Error of_case(Reason reason, const char* what) {
  return Error{Code::kDenied, reason, what};
}

bool may_follow(Kind opened_by, Kind kind) {
  switch (kind) {
    case Kind::kApproval:
    case Kind::kDenial:
      return opened_by == Kind::kRequest || opened_by == Kind::kPolicyProposed ||
             opened_by == Kind::kEnrolmentRequested || opened_by == Kind::kErasureProposed;
    case Kind::kListApproval:
      return opened_by == Kind::kEnrolmentRequested;
    case Kind::kPolicy:
      return opened_by == Kind::kPolicyProposed;
    case Kind::kEnrolment:
      return opened_by == Kind::kEnrolmentRequested;
    case Kind::kErasure:
      return opened_by == Kind::kErasureProposed;
    case Kind::kRefusal:
    case Kind::kGrant:
    case Kind::kLease:
    case Kind::kSessionOpened:
    case Kind::kSessionClosed:
      return opened_by == Kind::kRequest;
    default:
      return false;
  }
}

Status check_in_case(const CaseTrace& trace, const ledger::Leaf& leaf, Kind kind, bool denied) {
  if (kind == Kind::kListApproval && may_follow(trace.opened_by, Kind::kApproval) &&
      !may_follow(trace.opened_by, kind))
    return of_case(Reason::kApprovalOtherDecision, "a list approves machines only");
  if (trace.closed || !may_follow(trace.opened_by, kind))
    return of_case(Reason::kCaseClosed, "nothing of this kind may follow");
  const bool report = kind == Kind::kSessionOpened || kind == Kind::kSessionClosed;
  if (report && trace.grant) return Done{};  // what happened is written down, whatever came after the grant
  if (denied) return of_case(Reason::kCaseDenied, "the case is denied or revoked");
  if (trace.grant) {
    if (kind == Kind::kGrant)
      return Error{Code::kConflict, Reason::kGrantExists, "the case has its one grant"};
    if (kind != Kind::kLease && kind != Kind::kDenial)
      return of_case(Reason::kCaseClosed, "the case has a grant");
    if (leaf.time >= trace.grant->not_after)
      return of_case(Reason::kGrantExpired, "the grant's time is over");
    return Done{};
  }
  if (report || kind == Kind::kLease) return of_case(Reason::kPending, "the case has no grant");
  if (kind != Kind::kRefusal && leaf.time >= trace.expires)
    return of_case(Reason::kCaseExpired, "the case has expired");
  return Done{};
}

// Embedded statements of a closing policy or enrolment.
Result<Envelope> parse_embedded(ByteView bytes, Kind kind) {
  SP_TRY(Envelope envelope, parse_envelope(bytes));
  if (envelope.type != payload_type(kind))
    return Error{Code::kMalformed, "an embedded statement of another kind"};
  return envelope;
}

Status verify_embedded_quorum(const ControlState& state, const LoadedPolicy& policy,
                              const std::vector<Bytes>& approvals, const ApprovalRules& rules,
                              const policy::Quorum& quorum, UnixMillis at) {
  std::vector<policy::CandidateApproval> candidates;
  for (const Bytes& bytes : approvals) {
    SP_TRY(const Envelope envelope, parse_envelope(bytes));
    SP_TRY(const VerifiedApproval approval, verify_approval_statement(state, policy, envelope, rules, at));
    candidates.push_back({PersonId{approval.statement.approver}});
  }
  return policy::verify_quorum(policy.policy, {.quorum = quorum, .excluded = {}}, candidates);
}

Result<std::shared_ptr<const LoadedPolicy>> load_named(const ControlState& state, const Body& body,
                                                       const BlobIndex& blobs, const Digest256& digest,
                                                       std::initializer_list<EvidenceType> also = {}) {
  SP_TRY(PolicyDocument document, policy_document(body, blobs, also));
  SP_TRY(LoadedPolicy loaded,
         load_policy(std::move(document), state.origin(), LeafIndex{state.size().get()}));
  if (loaded.policy.digest != digest)
    return Error{Code::kUnverified, Reason::kPolicyInvalid, "the text is of another policy"};
  return std::make_shared<const LoadedPolicy>(std::move(loaded));
}

// verify_change checks what the people of the policy in force have signed: a proposal of this very successor,
// and approvals that fill the quorum of a change. `state` is of the log whose people they are.
Status verify_change(const ControlState& state, const LoadedPolicy& current, const PolicyInForce& statement,
                     const Body& body) {
  SP_TRY(const Envelope envelope, parse_embedded(statement.proposal, Kind::kPolicyProposed));
  SP_TRY(const PolicyProposed proposal, parse_policy_proposed(envelope.payload));
  SP_CHECK(check_header(state.origin(), proposal.authority, proposal.case_id, body));
  SP_CHECK(verify_person(state, current.policy, envelope, proposal.person));
  const bool succeeds = proposal.previous == current.policy.digest &&
                        proposal.version == current.policy.version + 1 &&
                        proposal.version == statement.version && proposal.digest == statement.digest;
  if (!succeeds)
    return Error{Code::kDenied, Reason::kPolicyNotSuccessor,
                 "the proposal is not the successor of the policy in force"};
  if (body.time >= proposal.time + kPolicyLife)
    return Error{Code::kDenied, Reason::kCaseExpired, "the proposal has expired"};
  return verify_embedded_quorum(
      state, current, statement.approvals,
      {.case_id = statement.case_id, .to_approve = statement_digest(envelope), .max_life = kPolicyLife},
      current.policy.authority.change, body.time);
}

// verify_continued checks that a log goes on from another one: the state that its first policy names is here,
// and the people of that state have signed the policy.
Result<ControlState> verify_continued(const LoadedPolicy& first, const PolicyInForce& statement,
                                      const Body& body, const BlobIndex& blobs) {
  if (!first.policy.authority.continues)
    return Error{Code::kUnverified, Reason::kTrustAnchor,
                 "the first policy is neither of version 1 nor continues another log"};
  const policy::Continues& named = *first.policy.authority.continues;
  SP_TRY(const Blob* bytes, one_blob(body, blobs, EvidenceType::kControlState));
  if (crypto::sha256(bytes->bytes) != named.state)
    return Error{Code::kUnverified, Reason::kTrustAnchor, "the state is not the one that the policy names"};
  SP_TRY(ControlState before, parse_control(bytes->bytes));
  if (before.origin() != named.origin || before.size() != named.size || before.root() != named.root)
    return Error{Code::kUnverified, Reason::kTrustAnchor,
                 "the state is of another log, size or root than the policy names"};
  if (body.time < before.last_time())
    return out_of_order("the log begins before the one that it continues ended");
  const std::shared_ptr<const LoadedPolicy> current = before.policy();  // there is one: a size is at least 1
  SP_CHECK(policy::check_continuation(current->policy, first.policy));
  SP_CHECK(verify_change(before, *current, statement, body));
  return before;
}

Result<ControlEffect> verify_genesis(const ControlState& state, const Digest256& pinned,
                                     const OpenedStatement& opened) {
  SP_TRY(PolicyInForce statement, parse_policy_in_force(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  if (statement.digest != pinned || statement.case_id != genesis_case(pinned))
    return Error{Code::kUnverified, Reason::kTrustAnchor,
                 "the log does not begin with the policy that is trusted"};
  ControlEffect effect;
  SP_TRY(effect.policy,
         load_named(state, opened.body, opened.blobs, statement.digest, {EvidenceType::kControlState}));
  if (effect.policy->policy.version != statement.version)
    return Error{Code::kUnverified, Reason::kTrustAnchor, "the first policy is of another version"};
  if (statement.version == 1) {
    if (!items_of_type(opened.body, EvidenceType::kControlState).empty())
      return Error{Code::kMalformed, "version 1 continues no state"};
    if (!statement.proposal.empty() || !statement.approvals.empty())
      return Error{Code::kUnverified, Reason::kTrustAnchor, "nobody proposes or approves version 1"};
  } else {
    SP_TRY(effect.continued, verify_continued(*effect.policy, statement, opened.body, opened.blobs));
  }
  effect.policy_statement = std::move(statement);
  return effect;
}

Result<ControlEffect> verify_policy(const ControlState& state, const LoadedPolicy& current,
                                    const OpenedStatement& opened) {
  SP_TRY(PolicyInForce statement, parse_policy_in_force(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(verify_change(state, current, statement, opened.body));
  ControlEffect effect;
  SP_TRY(effect.policy, load_named(state, opened.body, opened.blobs, statement.digest));
  SP_CHECK(policy::check_successor(current.policy, effect.policy->policy));
  effect.policy_statement = std::move(statement);
  return effect;
}

Result<ControlEffect> verify_enrolment_closing(const ControlState& state, const LoadedPolicy& current,
                                               const Entry& entry, const OpenedStatement& opened) {
  SP_TRY(Enrolment statement, parse_enrolment(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  SP_TRY(const Envelope envelope, parse_embedded(statement.request, Kind::kEnrolmentRequested));
  SP_TRY(const EnrolmentRequested request, parse_enrolment_requested(envelope.payload));
  SP_CHECK(check_header(state.origin(), request.authority, request.case_id, opened.body));
  SP_CHECK(verify_person(state, current.policy, envelope, request.person));
  if (entry.leaf.time >= request.time + kEnrolmentLife)
    return Error{Code::kDenied, Reason::kCaseExpired, "the enrolment has expired"};
  const Digest256 digest = statement_digest(envelope);
  SP_CHECK(verify_embedded_quorum(
      state, current, statement.approvals,
      {.case_id = statement.case_id, .to_approve = digest, .max_life = kEnrolmentLife, .by_list = true},
      current.policy.authority.enrol, entry.leaf.time));
  ControlEffect effect;
  SP_TRY(VerifiedEnrolment enrolled, verify_enrolment(state, current, request, digest, opened.body,
                                                      opened.blobs, LeafIndex{state.size().get()}));
  effect.device = std::move(enrolled.device);
  effect.enrolment_statement = std::move(statement);
  return effect;
}

Result<ControlEffect> verify_revocation(const ControlState& state, const LoadedPolicy& current,
                                        const OpenedStatement& opened) {
  SP_CHECK(check_only(opened.body, {}));
  SP_TRY(Revocation statement, parse_revocation(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(verify_person(state, current.policy, opened.envelope, statement.person));
  SP_CHECK(check_time(statement.time, opened.body.time));
  if (!policy::is_member(*policy::find_person(current.policy, PersonId{statement.person}),
                         current.policy.authority.revoke))
    return Error{Code::kDenied, Reason::kPolicyGroup, "the person may not revoke"};
  switch (statement.kind) {
    case RevocationKind::kCase:
      SP_CHECK(parse_case_id(statement.target));
      break;
    case RevocationKind::kDevice:
    case RevocationKind::kLost:
      SP_CHECK(parse_device_id(statement.target));
      break;
    case RevocationKind::kRetired: {
      SP_TRY(const DeviceId id, parse_device_id(statement.target));
      SP_CHECK(live_device(state, id));
      break;
    }
    case RevocationKind::kToken:
      SP_CHECK(parse_key_id(statement.target));
      break;
    case RevocationKind::kPerson:
      break;
  }
  ControlEffect effect;
  effect.revocation = std::move(statement);
  return effect;
}

Result<ControlEffect> verify_denial(const ControlState& state, const LoadedPolicy& current,
                                    const OpenedStatement& opened) {
  SP_CHECK(check_only(opened.body, {}));
  SP_TRY(Denial statement, parse_denial(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(verify_person(state, current.policy, opened.envelope, statement.approver));
  SP_CHECK(check_time(statement.time, opened.body.time));
  ControlEffect effect;
  effect.denial = std::move(statement);
  return effect;
}

Result<ControlEffect> verify_grant_leaf(const ControlState& state, const LoadedPolicy& current,
                                        const OpenedStatement& opened) {
  SP_TRY(Grant statement, parse_grant(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  SP_TRY(DecisionStatement decision, parse_decision(statement.decision));
  SP_CHECK(check_header(state.origin(), decision.authority, decision.case_id, opened.body));
  if (decision.policy != current.policy.digest)
    return Error{Code::kDenied, Reason::kPolicyChanged,
                 "the decision is of another policy than the one in force"};
  if (decision.duration_s == 0 ||
      decision.duration_s > static_cast<std::uint64_t>(policy::kMaxGrantDuration.count()))
    return Error{Code::kMalformed, "a grant of such a duration is none"};
  ControlEffect effect;
  effect.grant = std::move(statement);
  effect.decision = std::move(decision);
  return effect;
}

Result<ControlEffect> verify_erasure(const ControlState& state, const LoadedPolicy& current,
                                     const OpenedStatement& opened) {
  SP_CHECK(check_only(opened.body, {}));
  SP_TRY(Erasure statement, parse_erasure(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  SP_TRY(const Envelope envelope, parse_embedded(statement.proposal, Kind::kErasureProposed));
  SP_TRY(ErasureProposed proposal, parse_erasure_proposed(envelope.payload));
  SP_CHECK(check_header(state.origin(), proposal.authority, proposal.case_id, opened.body));
  SP_CHECK(verify_person(state, current.policy, envelope, proposal.person));
  SP_CHECK(check_erasable(state, current.policy, proposal, opened.body.time));
  if (opened.body.time >= proposal.time + kPolicyLife)
    return Error{Code::kDenied, Reason::kCaseExpired, "the proposal has expired"};
  SP_CHECK(verify_embedded_quorum(
      state, current, statement.approvals,
      {.case_id = statement.case_id, .to_approve = statement_digest(envelope), .max_life = kPolicyLife},
      current.policy.authority.erase->quorum, opened.body.time));
  ControlEffect effect;
  effect.erasure_statement = std::move(statement);
  effect.erasure = std::move(proposal);
  return effect;
}

// verify_holder checks that a statement is of somebody who may hold cases, and lift holds.
Status verify_holder(const ControlState& state, const LoadedPolicy& current, const OpenedStatement& opened,
                     const std::string& person, UnixMillis time) {
  SP_CHECK(check_only(opened.body, {}));
  SP_CHECK(verify_person(state, current.policy, opened.envelope, person));
  SP_CHECK(check_time(time, opened.body.time));
  const std::optional<GroupId>& holders = current.policy.authority.hold;
  if (!holders || !policy::is_member(*policy::find_person(current.policy, PersonId{person}), *holders))
    return Error{Code::kDenied, Reason::kPolicyGroup, "the person may neither hold cases nor lift a hold"};
  return Done{};
}

Result<ControlEffect> verify_hold(const ControlState& state, const LoadedPolicy& current,
                                  const OpenedStatement& opened) {
  SP_TRY(Hold statement, parse_hold(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(verify_holder(state, current, opened, statement.person, statement.time));
  ControlEffect effect;
  effect.hold = std::move(statement);
  return effect;
}

Result<ControlEffect> verify_hold_lifted(const ControlState& state, const LoadedPolicy& current,
                                         const OpenedStatement& opened) {
  SP_TRY(HoldLifted statement, parse_hold_lifted(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  SP_CHECK(verify_holder(state, current, opened, statement.person, statement.time));
  if (!state.holds().contains(statement.hold))
    return Error{Code::kDenied, Reason::kHoldUnknown, "there is no such hold"};
  ControlEffect effect;
  effect.hold_lifted = std::move(statement);
  return effect;
}

// A snapshot says what this state is, and nothing else: everybody who folds computes the same. Where cases
// were erased that it remembered, nobody can any more; who folded it then has.
Status verify_snapshot(const ControlState& state, const OpenedStatement& opened) {
  SP_CHECK(check_only(opened.body, {}));
  SP_TRY(const Snapshot statement, parse_snapshot(opened.envelope.payload));
  SP_CHECK(check_header(state.origin(), statement.authority, statement.case_id, opened.body));
  const std::optional<SnapshotMark>& before = state.newest_snapshot();
  if (before && opened.body.time < before->time + kSnapshotGap)
    return Error{Code::kDenied, Reason::kRateLimited, "a snapshot too soon after the one before"};
  const Error other{Code::kUnverified, Reason::kLogSnapshot,
                    "the snapshot is of another state than this log's"};
  if (statement.size != state.size().get() ||
      statement.case_id != snapshot_case(state.origin(), statement.size, statement.state))
    return other;
  if (!state.is_whole()) return Done{};
  const Bytes encoded = encode_control(state);
  if (encoded.size() > kMaxControlBytes)
    return Error{Code::kUnverified, Reason::kLogSnapshot, "the state is larger than a snapshot may be"};
  if (statement.state != crypto::sha256(encoded)) return other;
  return Done{};
}

}  // namespace

UnixMillis forget_at(const CaseTrace& trace) {
  return (trace.grant ? std::max(trace.expires, trace.grant->not_after) : trace.expires) + kIdMemory;
}

bool opens(Kind kind) {
  return kind == Kind::kPolicyProposed || kind == Kind::kEnrolmentRequested || kind == Kind::kRevocation ||
         kind == Kind::kRequest || kind == Kind::kSnapshot || kind == Kind::kErasureProposed ||
         kind == Kind::kHold || kind == Kind::kHoldLifted;
}

Status check_erasable(const ControlState& state, const policy::Policy& policy, const ErasureProposed& erasure,
                      UnixMillis at) {
  const std::optional<policy::EraseRight>& right = policy.authority.erase;
  if (!right) return of_case(Reason::kErasureOff, "the policy lets nobody erase");
  if (erasure.before + right->retention > at)
    return of_case(Reason::kErasureNotDue, "cases of that time are within the policy's retention");
  for (const CaseId& id : erasure.cases) {
    if (state.is_held(id))
      return Error{Code::kDenied, Reason::kErasureHeld, "case " + to_hex(id) + " is held"};
    // A case that was opened later than `before` is not covered anyway; who names it is told so.
    const CaseTrace* const trace = state.find_case(id);
    if (trace != nullptr && !trace->erased && forget_at(*trace) > at)
      return Error{Code::kDenied, Reason::kErasureNotDue,
                   "case " + to_hex(id) + " is not over for long enough: the log remembers it still"};
  }
  return Done{};
}

PreparedControl::PreparedControl() : change_(std::make_unique<Change>()) {}
PreparedControl::PreparedControl(PreparedControl&&) noexcept = default;
PreparedControl& PreparedControl::operator=(PreparedControl&&) noexcept = default;
PreparedControl::~PreparedControl() = default;

Status Fold::check_place(const ControlState& state, const ledger::Leaf& leaf, Kind kind) {
  if (leaf.time > kLastTime || leaf.time < state.last_time_) return out_of_order("the leaf's time went back");
  if (state.policies_->empty()) {
    if (kind != Kind::kPolicy || leaf.predecessor != ledger::kNoPredecessor)
      return Error{Code::kUnverified, Reason::kTrustAnchor, "the log does not begin with a policy"};
    return Done{};
  }
  const CaseTrace* trace = state.find_case(leaf.case_id);
  const bool denied = state.is_denied(leaf.case_id);
  if (opens(kind)) {
    // Of an erased case it is not known when it was forgotten: at the earliest from here on.
    const bool forgotten = trace != nullptr && trace->erased && leaf.time >= trace->expires + kIdMemory;
    if (trace != nullptr && !forgotten) return Error{Code::kConflict, Reason::kCaseExists, "the case exists"};
    if (denied) return of_case(Reason::kCaseDenied, "the case is revoked");
    if (leaf.predecessor != ledger::kNoPredecessor)
      return out_of_order("a predecessor in a case that begins");
    return Done{};
  }
  if (trace == nullptr) return of_case(Reason::kCaseUnknown, "there is no such case");
  SP_CHECK(check_in_case(*trace, leaf, kind, denied));
  if (leaf.predecessor != trace->last.get())
    return out_of_order("another predecessor than the newest leaf of the case");
  return Done{};
}

Result<ControlEffect> Fold::verify_policy_leaf(const ControlState& state, const OpenedStatement& statement) {
  if (state.policies_->empty()) return verify_genesis(state, state.genesis_policy_, statement);
  return verify_policy(state, *state.policies_->back(), statement);
}

Result<PreparedControl> Fold::place(const ControlState& state, const ledger::Leaf& leaf) {
  SP_TRY(const Kind kind, parse_kind(leaf.kind));
  SP_CHECK(check_place(state, leaf, kind));
  PreparedControl prepared;
  PreparedControl::Change& change = *prepared.change_;
  change.index = LeafIndex{state.size().get()};
  change.leaf = leaf;
  change.kind = kind;
  change.leaf_hash = ledger::leaf_hash(leaf);
  return prepared;
}

Result<PreparedControl> Fold::prepare_erased(const ControlState& state, const ledger::Leaf& leaf) {
  SP_TRY(PreparedControl prepared, place(state, leaf));
  const CaseTrace* const trace = state.find_case(leaf.case_id);
  const bool begins = prepared.change_->kind == Kind::kRequest;
  if (!is_erasable(prepared.change_->kind) || !(begins || (trace != nullptr && trace->erased)))
    return Error{Code::kUnverified, Reason::kLogMissingBody, "the body of a leaf is missing"};
  prepared.change_->erased = true;
  return prepared;
}

Result<PreparedControl> Fold::prepare(const ControlState& state, const ledger::Leaf& leaf, const Entry* entry,
                                      const OpenedStatement* statement) {
  SP_TRY(PreparedControl prepared, place(state, leaf));
  PreparedControl::Change& change = *prepared.change_;
  const Kind kind = change.kind;
  if (!is_control(kind)) return prepared;

  const auto verify = [&]() -> Result<ControlEffect> {
    if (kind == Kind::kPolicy) return verify_policy_leaf(state, *statement);
    const LoadedPolicy& current = *state.policies_->back();
    switch (kind) {
      case Kind::kEnrolment:
        return verify_enrolment_closing(state, current, *entry, *statement);
      case Kind::kRevocation:
        return verify_revocation(state, current, *statement);
      case Kind::kDenial:
        return verify_denial(state, current, *statement);
      case Kind::kGrant:
        return verify_grant_leaf(state, current, *statement);
      case Kind::kSnapshot:
        SP_CHECK(verify_snapshot(state, *statement));
        return ControlEffect{};
      case Kind::kErasure:
        return verify_erasure(state, current, *statement);
      case Kind::kHold:
        return verify_hold(state, current, *statement);
      case Kind::kHoldLifted:
        return verify_hold_lifted(state, current, *statement);
      default:
        return Error{Code::kInternal, "a control kind without a verification"};
    }
  };
  SP_TRY(change.effect, verify());
  return prepared;
}

std::vector<CaseId> Fold::commit(ControlState& state, PreparedControl prepared) {
  const PreparedControl::Change& change = *prepared.change_;
  SP_ASSERT(change.index.get() == state.size().get());
  const ledger::Leaf& leaf = change.leaf;
  const ControlEffect& effect = change.effect;
  state.range_.append(change.leaf_hash);
  state.last_time_ = leaf.time;

  CaseTrace& trace = state.cases_.edit(leaf.case_id);
  if (leaf.predecessor == ledger::kNoPredecessor) {
    trace = {};
    state.erased_.erase(leaf.case_id);
    trace.opened_by = change.kind;
    trace.first = change.index;
    trace.opened = leaf.time;
    trace.expires = leaf.time + life_of(change.kind);
    state.forget_.edit({trace.expires + kIdMemory, leaf.case_id});
  }
  trace.last = change.index;
  if (change.erased) {
    trace.erased = true;
    state.erased_.edit(leaf.case_id);
    if (change.kind == Kind::kRequest) state.unnamed_.edit(leaf.case_id) = {change.index, leaf.time};
  }
  switch (change.kind) {
    case Kind::kPolicy: {
      if (effect.continued) continue_from(state, *effect.continued);
      auto policies = *state.policies_;
      policies.push_back(effect.policy);
      state.policies_ = std::make_shared<const decltype(policies)>(std::move(policies));
      trace.closed = true;
      break;
    }
    case Kind::kEnrolment:
      if (const Device* before = state.find_device(effect.device->id))
        state.attestation_keys_.erase(crypto::sha256(before->ak));
      state.retired_.erase(effect.device->id);
      state.attestation_keys_.edit(crypto::sha256(effect.device->ak)) = effect.device->id;
      state.identities_.edit(*effect.device->identity) = effect.device->id;
      state.devices_.edit(effect.device->id) = std::make_shared<const Device>(*effect.device);
      trace.closed = true;
      break;
    case Kind::kRevocation: {
      const std::string& target = effect.revocation->target;
      switch (effect.revocation->kind) {
        case RevocationKind::kCase: {
          const CaseId id = *parse_case_id(target);
          const UnixMillis until = leaf.time + kPolicyLife + kIdMemory;  // no case lives longer
          state.revoked_cases_.edit(id) = until;
          state.forget_.edit({until, id});
          break;
        }
        case RevocationKind::kDevice:
        case RevocationKind::kLost: {
          const DeviceId id = *parse_device_id(target);
          state.revoked_devices_.edit(id);
          state.retired_.erase(id);
          if (effect.revocation->kind == RevocationKind::kLost && !state.lost_.contains(id))
            state.lost_.edit(id) = change.index;
          break;
        }
        case RevocationKind::kRetired:
          state.retired_.edit(*parse_device_id(target)) = change.index;
          break;
        case RevocationKind::kPerson:
          state.revoked_people_.edit(target);
          break;
        case RevocationKind::kToken:
          state.revoked_tokens_.edit(*parse_key_id(target));
          break;
      }
      trace.closed = true;
      break;
    }
    case Kind::kDenial:
      trace.denied = true;
      break;
    case Kind::kGrant:
      trace.grant = GrantMark{
          .index = change.index,
          .leaf_hash = change.leaf_hash,
          .not_before = leaf.time,
          .not_after = leaf.time + (effect.decision ? std::chrono::seconds{effect.decision->duration_s}
                                                    : policy::kMaxGrantDuration)};
      break;
    case Kind::kApproval:
    case Kind::kListApproval:
      trace.approvals.push_back(leaf.time);
      break;
    case Kind::kRefusal:
      trace.closed = true;
      break;
    case Kind::kSnapshot:
      state.snapshot_ = SnapshotMark{.index = change.index, .time = leaf.time};
      trace.closed = true;
      break;
    case Kind::kHold:
      state.holds_.edit(leaf.case_id) = effect.hold->cases;
      trace.closed = true;
      break;
    case Kind::kHoldLifted:
      state.holds_.erase(effect.hold_lifted->hold);
      trace.closed = true;
      break;
    case Kind::kErasure:
      for (const CaseId& id : effect.erasure->cases)
        if (const auto* one = state.unnamed_.find(id);
            one != nullptr && covers(*effect.erasure, id, one->opened))
          state.unnamed_.erase(id);
      trace.closed = true;
      break;
    default:
      break;
  }
  return forget(state);
}

// continue_from takes over what holds in every log of an authority: its machines, and what is revoked. Cases
// are of the log that they are in, and so are policies: their quorums count there.
void Fold::continue_from(ControlState& state, const ControlState& before) {
  before.devices_.for_each([&](const DeviceId& id, const auto& device) {
    Device here = *device;
    here.enrolled = LeafIndex{0};
    state.devices_.edit(id) = std::make_shared<const Device>(std::move(here));
  });
  state.attestation_keys_ = before.attestation_keys_;
  state.identities_ = before.identities_;
  state.revoked_devices_ = before.revoked_devices_;
  before.retired_.for_each(
      [&](const DeviceId& id, const LeafIndex&) { state.retired_.edit(id) = LeafIndex{0}; });
  before.lost_.for_each([&](const DeviceId& id, const LeafIndex&) { state.lost_.edit(id) = LeafIndex{0}; });
  state.revoked_people_ = before.revoked_people_;
  state.revoked_tokens_ = before.revoked_tokens_;
  state.holds_ = before.holds_;
}

bool Fold::lacks_revocation(const ControlState& own, const ControlState& before) {
  bool lacks = false;
  const auto compare = [&](const auto& mine, const auto& theirs) {
    mine.for_each([&](const auto& key, const auto&) { lacks = lacks || !theirs.contains(key); });
  };
  compare(own.revoked_devices_, before.revoked_devices_);
  compare(own.lost_, before.lost_);
  compare(own.revoked_people_, before.revoked_people_);
  compare(own.revoked_tokens_, before.revoked_tokens_);
  // A retired machine may have been enrolled again since.
  own.retired_.for_each([&](const DeviceId& id, const LeafIndex& at) {
    const Device* there = before.find_device(id);
    lacks = lacks || !(before.is_revoked(id) || (there != nullptr && there->enrolled > at));
  });
  return lacks;
}

Status check_continues(const ControlState& own, const ControlState& before) {
  const auto unverified = [](Reason reason, std::string what) {
    return Error{Code::kUnverified, reason, std::move(what), Next::kCallOperator, 0};
  };
  if (!own.policy()) return unverified(Reason::kTrustAnchor, "nothing of the log before was followed here");
  if (own.origin() != before.origin())
    return unverified(Reason::kTrustAnchor, "it goes on from another log: " + before.origin().get());
  if (before.size() < own.size())
    return unverified(Reason::kLogRollback, "it goes on from leaf " + std::to_string(before.size().get()) +
                                                ", and " + std::to_string(own.size().get()) +
                                                " were followed here");
  if (before.policy()->policy.digest != own.policy()->policy.digest)
    return unverified(
        Reason::kPolicyChanged,
        "another policy was in force at its end than the one followed here: its people are not known");
  if (before.size() == own.size() && encode_control(before) != encode_control(own))
    return unverified(Reason::kLogFork,
                      "it goes on from another state of this size than the one followed here");
  if (Fold::lacks_revocation(own, before))
    return unverified(Reason::kLogRollback, "what is revoked here is not revoked there");
  return Done{};
}

std::vector<CaseId> Fold::forget(ControlState& state) {
  std::vector<CaseId> gone;
  while (!state.forget_.empty() && state.forget_.first().first.first <= state.last_time_) {
    const std::pair next = state.forget_.first().first;
    const CaseId id = next.second;
    state.forget_.erase(next);
    if (const UnixMillis* until = state.revoked_cases_.find(id);
        until != nullptr && *until <= state.last_time_)
      state.revoked_cases_.erase(id);
    const CaseTrace* trace = state.cases_.find(id);
    if (trace == nullptr) continue;
    const UnixMillis due = forget_at(*trace);
    if (due > state.last_time_) {
      state.forget_.edit({due, id});
      continue;
    }
    state.cases_.erase(id);
    state.erased_.erase(id);
    gone.push_back(id);
  }
  return gone;
}

Result<PreparedControl> prepare_control(const ControlState& state, const ledger::Leaf& leaf,
                                        const Entry* entry) {
  SP_TRY(const Kind kind, parse_kind(leaf.kind));
  if (!is_control(kind)) {
    if (entry != nullptr) return Error{Code::kMalformed, "a body for a leaf that has none for followers"};
    return Fold::prepare(state, leaf, nullptr, nullptr);
  }
  if (entry == nullptr)
    return Error{Code::kUnverified, Reason::kLogMissingBody, "the body of a control leaf is missing"};
  if (entry->leaf != leaf) return Error{Code::kUnverified, Reason::kLogBody, "the body is of another leaf"};
  SP_TRY(const OpenedStatement statement, open_statement(*entry));
  return Fold::prepare(state, leaf, entry, &statement);
}

Result<PreparedControl> prepare_erased(const ControlState& state, const ledger::Leaf& leaf) {
  return Fold::prepare_erased(state, leaf);
}

void commit(ControlState& state, PreparedControl prepared) {
  Fold::commit(state, std::move(prepared));
}

}  // namespace sallyport::record
