#pragma once

#include "attestation/record/appraise.h"
#include "attestation/record/snapshot.h"

// Inside of this room: the fold itself. control_fold.cpp is the part that every follower runs, case_fold.cpp
// the part that needs the bodies of cases.
namespace sallyport::record {

// What the control body of a leaf says, once it has been verified.
struct ControlEffect {
  std::shared_ptr<const LoadedPolicy> policy;
  std::optional<ControlState> continued;  // of the log before, where this one goes on
  std::optional<PolicyInForce> policy_statement;
  std::optional<Device> device;
  std::optional<Enrolment> enrolment_statement;
  std::optional<Revocation> revocation;
  std::optional<Denial> denial;
  std::optional<Grant> grant;
  std::optional<DecisionStatement> decision;  // of the grant
  std::optional<Erasure> erasure_statement;
  std::optional<ErasureProposed> erasure;
  std::optional<Hold> hold;
  std::optional<HoldLifted> hold_lifted;
};

struct PreparedControl::Change {
  LeafIndex index;
  ledger::Leaf leaf;
  Kind kind = Kind::kPolicy;
  bool erased = false;  // there is no body, and so no effect
  Digest256 leaf_hash;
  ControlEffect effect;
};

// What a leaf tells of machines' boots.
struct BootEffect {
  std::optional<std::pair<DeviceId, evidence::ProvenBoot>> proved;
  std::optional<std::pair<DeviceId, State::Stop>> stopped;  // its counters went back
  std::optional<DeviceId> disproved;                        // its clock was not what a request has said
  std::optional<Reason> refused;  // the reason, where only the time of the request could tell
};

struct Prepared::Change {
  PreparedControl control;
  Digest256 digest;  // of the statement
  std::optional<Case> opened;
  BootEffect boot;
  std::optional<CountedApproval> approval;
  std::optional<Entry> closing;
  std::vector<Digest256> granted_by;
  std::optional<std::uint64_t> session_opened, session_closed;
  std::optional<crypto::PublicKey> host_key;  // that signed such a report
};

// forget_at is when a case is forgotten, as far as it has come.
UnixMillis forget_at(const CaseTrace& trace);

// opens tells whether a leaf of this kind is the first of its case. (Version 1 of the policy is too.)
bool opens(Kind kind);

// genesis_case is the case of a log's first policy: the first 16 bytes of its digest.
CaseId genesis_case(const Digest256& policy);

// Standing is one approval of a case that still counts: not expired, its person, token and machine still good
// under the policy in force.
struct Standing {
  const CountedApproval* approval;
  policy::CandidateApproval candidate;
};

class Fold {
 public:
  // `statement` is the entry's body, opened; both null for kinds of which a follower gets no body.
  static Result<PreparedControl> prepare(const ControlState& state, const ledger::Leaf& leaf,
                                         const Entry* entry, const OpenedStatement* statement);
  // commit gives the cases that are forgotten from now on.
  static std::vector<CaseId> commit(ControlState& state, PreparedControl prepared);

  static Result<PreparedControl> prepare_erased(const ControlState& state, const ledger::Leaf& leaf);

  static Result<Prepared> prepare(const State& state, const Entry& entry);
  static Result<Prepared> prepare_erased(const State& state, const ledger::Leaf& leaf);
  static Result<Prepared> prepare(const State& state, const Entry& entry, const OpenedStatement& statement);
  static void commit(State& state, Prepared prepared);

  static Result<ControlState> join(const Origin& origin, const Digest256& genesis_policy,
                                   const Joining& joining);

 private:
  // verify_policy_leaf is the part of prepare for a policy that needs of `state` only what policies it has.
  static Result<ControlEffect> verify_policy_leaf(const ControlState& state,
                                                  const OpenedStatement& statement);
  // place is the part of prepare that every leaf has, with a body or without.
  static Result<PreparedControl> place(const ControlState& state, const ledger::Leaf& leaf);
  static Status check_place(const ControlState& state, const ledger::Leaf& leaf, Kind kind);
  static std::vector<CaseId> forget(ControlState& state);
  static void continue_from(ControlState& state, const ControlState& before);
  friend Status check_continues(const ControlState& own, const ControlState& before);
  static bool lacks_revocation(const ControlState& own, const ControlState& before);
};

// find_open_case gives a case that waits for its quorum. Errors: kCaseUnknown, kCaseClosed, the reason of a
// refusable case.
Result<const Case*> find_open_case(const State& state, const CaseId& case_id);

// What the policy in force asks of a case's approvals.
policy::QuorumQuestion question_of(const Case& one, const LoadedPolicy& policy);

// standing gives the approvals of a case that count at `at`, in leaf order. `lost` is why the first of the
// others does not.
struct StandingApprovals {
  std::vector<Standing> approvals;
  std::optional<Error> lost;
};
StandingApprovals standing(const State& state, const Case& one, const LoadedPolicy& policy, UnixMillis at);

// closing_approvals gives those that fill the clauses of the quorum, in leaf order: exactly these a grant,
// policy or enrolment names. Errors: kQuorumNotMet, or the reason for which the first lost approval does not
// count any more.
Result<std::vector<const CountedApproval*>> closing_approvals(const State& state, const Case& one,
                                                              const LoadedPolicy& policy, UnixMillis at);

// current_decision decides again under the policy in force: the case's decision, equal but for `policy`.
// Errors: kPolicyChanged; kRevoked, kDeviceRevoked.
Result<DecisionStatement> current_decision(const State& state, const Case& one, const LoadedPolicy& policy);

}  // namespace sallyport::record
