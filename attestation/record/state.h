#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "attestation/evidence/quote.h"
#include "attestation/ledger/compact_range.h"
#include "attestation/ledger/witness_policy.h"
#include "attestation/policy/decide.h"
#include "attestation/policy/policy.h"
#include "attestation/record/entry.h"

namespace sallyport::record {

// LoadedPolicy is a policy with what travels beside it, and the leaves from which on it ruled.
struct LoadedPolicy {
  policy::Policy policy;
  ledger::WitnessPolicy witnesses;
  Bytes tpm_roots;        // PEM
  LeafIndex first_index;  // it rules from the leaf after this one on
};

struct Device {
  DeviceId id;
  std::string name;
  RegionId region;
  Bytes ak;               // TPMT_PUBLIC
  crypto::PublicKey ak_key;
  Digest256 pcrs;         // the baseline: pcrDigest of the default selection
  LeafIndex enrolled;
};

struct GrantMark {
  LeafIndex index;
  Digest256 leaf_hash;
  UnixMillis not_after;
};

// ControlState is what every follower knows: a fold over leaves and control bodies.
class ControlState {
 public:
  // begin starts before the first leaf of the log `origin` whose policy version 1 has this digest (the trust file pins both).
  static ControlState begin(Origin origin, Digest256 genesis_policy);

  const Origin& origin() const { return origin_; }
  TreeSize size() const;
  Digest256 root() const;
  UnixMillis last_time() const { return last_time_; }

  // The policy in force at the head; null before the first leaf.
  std::shared_ptr<const LoadedPolicy> policy() const;
  // The policy under which the leaf at `index` was appended.
  std::shared_ptr<const LoadedPolicy> policy_at(LeafIndex index) const;
  std::shared_ptr<const LoadedPolicy> find_policy(const Digest256& digest) const;

  const Device* find_device(const DeviceId& id) const;  // enrolled, revoked or not
  const Device* find_device_by_ak(ByteView ak_public) const;
  std::optional<GrantMark> find_grant(const CaseId& case_id) const;
  bool is_denied(const CaseId& case_id) const;          // by a denial or a revocation of the case
  bool is_revoked(const DeviceId& device) const;
  bool is_revoked_person(const std::string& person) const;
  bool is_revoked_token(const KeyId& token) const;

  // check_signer checks that `keyid` is a token of `person` in `policy` and that neither is revoked.
  Status check_signer(const policy::Policy& policy, const std::string& person, const KeyId& keyid) const;

 private:
  friend class Fold;
  Origin origin_;
  Digest256 genesis_policy_;
  ledger::CompactRange range_;
  UnixMillis last_time_;
  std::vector<std::shared_ptr<const LoadedPolicy>> policies_;
  std::map<DeviceId, Device> devices_;
  std::set<Digest256> attestation_keys_;  // SHA-256 of each AK's TPMT_PUBLIC
  std::set<DeviceId> revoked_devices_;
  std::set<std::string> revoked_people_;
  std::set<KeyId> revoked_tokens_;
  std::map<CaseId, UnixMillis> denied_;   // forgotten 48 h later, with all of its case
  std::map<CaseId, GrantMark> grants_;
};

// PreparedControl is what a leaf would change in a ControlState; only prepare_control makes one.
class PreparedControl {
 public:
  PreparedControl(PreparedControl&&) noexcept;
  PreparedControl& operator=(PreparedControl&&) noexcept;
  ~PreparedControl();

 private:
  friend class Fold;
  PreparedControl();
  struct Change;
  std::unique_ptr<Change> change_;
};

// prepare_control says what a leaf changes for a follower. `entry` is required exactly for control kinds.
//   Proves:         the body is the leaf's; a control statement's signatures and quorum hold under the policy in force.
//   Does not prove: that a grant is right (verify_dossier), or that the leaf is in the log (the caller compares roots).
//   Errors:         kLogMissingBody, kLogBody, kLogOrder (time went back), and the reason for which the statement does not hold.
Result<PreparedControl> prepare_control(const ControlState& state, const ledger::Leaf& leaf, const Entry* entry);
void commit(ControlState& state, PreparedControl prepared);

enum class CaseType : std::uint8_t { kAccess, kPolicy, kEnrolment, kRevocation };
enum class CaseState : std::uint8_t { kRefusable, kOpen, kRefused, kDenied, kGranted, kClosed };

struct CountedApproval {
  LeafIndex index;
  Approval statement;
  Digest256 digest;
  KeyId token;
  bool attested = false;
  Entry entry;
};

// Case is one case, as far as the log has come.
struct Case {
  CaseId id;
  CaseType type = CaseType::kAccess;
  CaseState state = CaseState::kOpen;
  LeafIndex first, last;             // its first leaf, and its newest (the predecessor of the next)
  UnixMillis opened, expires;
  Digest256 opening_digest;          // of the opening statement
  Entry opening;
  std::optional<Request> request;    // access cases
  std::optional<DecisionStatement> decision;  // access cases with a good outcome
  Digest256 to_approve;              // what an approval must carry as `decision`
  std::optional<Reason> refusable;   // the reason for which only a refusal may follow
  std::string detail;                // in words, for the person; never logged
  std::vector<CountedApproval> approvals;
  std::optional<Entry> closing;      // grant, policy, enrolment
  std::optional<LeafIndex> closing_index;
  std::vector<std::uint64_t> open_channels;   // sessions opened and not closed
};

// State is the whole fold: what a broker and an auditor know.
struct State {
  ControlState control;
  std::map<CaseId, Case> cases;      // of the last 48 h
};

class Prepared {
 public:
  Prepared(Prepared&&) noexcept;
  Prepared& operator=(Prepared&&) noexcept;
  ~Prepared();

 private:
  friend class Fold;
  Prepared();
  struct Change;
  std::unique_ptr<Change> change_;
};

// prepare says what an entry would change, or refuses it. A broker appends only what it accepts, an auditor replays with it.
//   Proves:         all that prepare_control proves; the statement is well-formed, signed by whom it must be, in time and in order;
//                   a grant, refusal, policy or enrolment is the one that follows from the case.
//   Does not prove: that the leaf is in the log.
//   Errors:         the reason of the first check that failed. The state is untouched.
Result<Prepared> prepare(const State& state, const Entry& entry);
void commit(State& state, Prepared prepared);

// How far a case's quorum has come: for people who wait, and for the broker to know when to close.
struct QuorumProgress {
  struct Clause {
    std::string group;
    std::uint64_t needed = 0, have = 0;
    std::vector<std::string> people;
  };
  std::vector<Clause> clauses;
  bool met = false;
};
Result<QuorumProgress> quorum_progress(const State& state, const CaseId& case_id, UnixMillis at);

// evaluate_request appraises a request's evidence and runs decide() under `policy`, as prepare, verify_dossier and the approver's own
// client do. `body` is the request's body, `blobs` its evidence.
//   Proves:  the request is signed by a live token of its person, made on a live enrolled device in its enrolled boot state, with a
//            certified session key of the required template; the policy allows it, on the condition of the decision's quorum.
//   Errors:  the reason a refusal would carry.
struct EvaluatedRequest {
  Request request;
  Digest256 request_digest;
  DecisionStatement decision;
  Bytes decision_payload;
  crypto::PublicKey session_key;
  evidence::VerifiedQuote quote;
};
Result<EvaluatedRequest> evaluate_request(const ControlState& control, const LoadedPolicy& policy, const Body& body,
                                          const std::vector<Blob>& blobs);

// The unsigned entries, as pure functions of the state. `time` is the leaf's; `nonce` the commitment's.
Result<Entry> compose_refusal(const State& state, const CaseId& case_id, UnixMillis time, const Nonce& nonce);
Result<Entry> compose_grant(const State& state, const CaseId& case_id, std::vector<Blob> activation, UnixMillis time,
                            const Nonce& nonce);
Result<Entry> compose_enrolment(const State& state, const CaseId& case_id, UnixMillis time, const Nonce& nonce);
Result<Entry> compose_policy(const State& state, const CaseId& case_id, UnixMillis time, const Nonce& nonce);
Entry compose_genesis(Origin origin, Blob policy_text, Blob tpm_roots, UnixMillis time, const Nonce& nonce);

}  // namespace sallyport::record
