#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "attestation/base/persistent_map.h"
#include "attestation/evidence/appraisal.h"
#include "attestation/evidence/boot_state.h"
#include "attestation/evidence/endorsement.h"
#include "attestation/evidence/quote.h"
#include "attestation/evidence/reference_values.h"
#include "attestation/ledger/compact_range.h"
#include "attestation/ledger/witness_policy.h"
#include "attestation/policy/decide.h"
#include "attestation/policy/policy.h"
#include "attestation/record/entry.h"
#include "attestation/record/verified_ahead.h"

namespace sallyport::record {

// PolicyDocument is a policy as it travels: its text, and the documents whose digests it names.
struct PolicyDocument {
  Bytes text;
  Bytes tpm_roots;                  // a PEM bundle
  std::optional<Bytes> references;  // reference values, where the policy names some
};

// LoadedPolicy is a policy with what travels beside it, and the leaves from which on it ruled.
struct LoadedPolicy {
  policy::Policy policy;
  ledger::WitnessPolicy witnesses;
  evidence::TpmRoots roots;  // of the bundle: self-issued certificates are roots, the others intermediates
  evidence::ReferenceValues references;  // what is enrolled, where the policy names none
  Bytes tpm_roots;                       // the bundle, verbatim
  std::optional<Bytes> reference_text;   // the document of `references`, where the policy names one
  LeafIndex first_index;                 // it rules from the leaf after this one on

  PolicyDocument document() const;
};

// load_policy parses a policy with what travels beside it, and judges what policy::parse_policy leaves to its
// caller.
//   Proves:         the document loads, is of `origin`, names this bundle and these reference values, and
//   they load;
//                   its witnesses' text is a sound tlog-policy with 2k > n whose only log of this origin has
//                   the log key of the document.
//   Does not prove: that anybody signed it.   Errors: kPolicyInvalid; kReferenceInvalid.
Result<LoadedPolicy> load_policy(PolicyDocument document, const Origin& origin, LeafIndex first_index);

// blobs_of gives what a policy's leaf, or a proposal of it, has as evidence; policy_document takes that, and
// nothing besides but types of `also`. Errors: kMalformed, kLogMissingBody.
std::vector<Blob> blobs_of(PolicyDocument document);
Result<PolicyDocument> policy_document(const Body& body, const BlobIndex& blobs,
                                       std::initializer_list<EvidenceType> also = {});

struct Device {
  DeviceId id;
  std::string name;
  RegionId region;
  Bytes ak;  // TPMT_PUBLIC
  evidence::AttestationKey attestation_key;
  evidence::BootBaseline baseline;  // the boot that was enrolled
  evidence::ClockInfo clock;        // in the quote of the enrolment: counters never go back behind it
  LeafIndex enrolled;
  // Of the TPM, whichever of its keys are enrolled (evidence/session_audit.h). Machines that were enrolled
  // before enrolments proved it have none.
  std::optional<evidence::TpmName> identity = {};
  // Who made its TPM, by the letters of the vendor's id ("STM"). Empty where the certificate says something
  // else than such letters, and for machines of a state that was carried over from before this was recorded.
  std::string tpm_maker = {};
};

struct GrantMark {
  LeafIndex index;
  Digest256 leaf_hash;
  UnixMillis not_before, not_after;
};

// CaseTrace is what leaves alone tell about a case, so every follower has it. It is forgotten kIdMemory after
// the case's life.
struct CaseTrace {
  Kind opened_by = Kind::kRequest;    // request, policy-proposed, enrolment-requested or revocation
  LeafIndex first, last;              // `last` is the predecessor of the case's next leaf
  UnixMillis opened, expires;         // by the leaves' times; nothing is decided from `expires` on
  std::vector<UnixMillis> approvals;  // times of the approvals' leaves, in order
  std::optional<GrantMark> grant;
  bool denied = false;
  bool closed = false;  // by a refusal, a policy, an enrolment, an erasure; a revocation is closed at once
  bool erased = false;  // of its bodies there is nothing left (prepare_erased): its grant's end is the latest
                        // that a grant can have
};

// SnapshotMark is where a snapshot leaf is.
struct SnapshotMark {
  LeafIndex index;
  UnixMillis time;
};

// ControlState is what every follower knows: a fold over leaves and control bodies. A copy is cheap, however
// much is in it; it shares what neither has changed.
class ControlState {
 public:
  // begin starts before the first leaf of the log `origin` whose policy version 1 has this digest (the trust
  // file pins both).
  static ControlState begin(Origin origin, Digest256 genesis_policy);

  const Origin& origin() const { return origin_; }
  TreeSize size() const;
  Digest256 root() const;
  const ledger::CompactRange& range() const { return range_; }  // to append from
  UnixMillis last_time() const { return last_time_; }

  // The policy in force at the head; null before the first leaf.
  std::shared_ptr<const LoadedPolicy> policy() const;
  // The policy under which the leaf at `index` was appended.
  std::shared_ptr<const LoadedPolicy> policy_at(LeafIndex index) const;
  std::shared_ptr<const LoadedPolicy> find_policy(const Digest256& digest) const;

  const Device* find_device(const DeviceId& id) const;  // enrolled, revoked or not
  const Device* find_device_by_ak(ByteView ak_public) const;
  const Device* find_device_by_identity(const evidence::TpmName& identity) const;
  std::vector<Device> devices() const;  // enrolled, revoked or not, in the order of the log
  const CaseTrace* find_case(const CaseId& case_id) const;
  std::optional<GrantMark> find_grant(const CaseId& case_id) const;
  bool is_denied(const CaseId& case_id) const;    // by a denial or a revocation of the case
  bool is_revoked(const DeviceId& device) const;  // for good, or retired
  std::optional<LeafIndex> find_retired(const DeviceId& device) const;  // the leaf that retired it
  // The first leaf that told it lost. Such a machine is revoked for good.
  std::optional<LeafIndex> find_lost(const DeviceId& device) const;
  bool is_revoked_person(const std::string& person) const;
  bool is_revoked_token(const KeyId& token) const;
  const std::optional<SnapshotMark>& newest_snapshot() const { return snapshot_; }
  // is_held tells whether a hold keeps the case from being erased. holds gives those that are not lifted: by
  // their cases, what they keep (nothing named: every case).
  bool is_held(const CaseId& case_id) const;
  std::map<CaseId, std::vector<CaseId>> holds() const;
  // is_whole tells whether it was folded from all that every follower of the time had: not with cases that
  // are remembered still and were erased since. Only a whole state has the bytes that a snapshot commits to.
  bool is_whole() const { return erased_.empty(); }
  // first_unnamed gives the earliest case whose bodies are missing and which no erasure has named yet: its
  // id, and its first leaf (check_complete).
  std::optional<std::pair<CaseId, LeafIndex>> first_unnamed() const;

  // remember takes what was verified ahead: judgements of this state then need not verify it again. What they
  // come to is the same. Null forgets.
  void remember(std::shared_ptr<const VerifiedAhead> known) { known_ = std::move(known); }
  const crypto::VerifiedSignatures* known() const { return known_ ? &known_->signatures : nullptr; }
  const JudgedLogs* judged_logs() const { return known_ ? &known_->logs : nullptr; }
  const evidence::ImaMemo* judged_lists() const { return known_ ? &known_->lists : nullptr; }

  // check_signer checks that `keyid` is a token of `person` in `policy` and that neither is revoked.
  // Revocations last: a policy that lists the person or token again changes nothing. Errors:
  // kPolicyUnknownPerson, kUnverified (another's key), kRevoked.
  Status check_signer(const policy::Policy& policy, const std::string& person, const KeyId& keyid) const;

 private:
  friend class Fold;
  friend class ControlCodec;
  ControlState() : policies_(std::make_shared<decltype(policies_)::element_type>()) {}
  Origin origin_;
  Digest256 genesis_policy_;
  ledger::CompactRange range_;
  UnixMillis last_time_;
  struct Nothing {};
  template <class Key>
  using Set = PersistentMap<Key, Nothing>;
  std::shared_ptr<const std::vector<std::shared_ptr<const LoadedPolicy>>> policies_;  // never null
  PersistentMap<DeviceId, std::shared_ptr<const Device>> devices_;
  PersistentMap<Digest256, DeviceId> attestation_keys_;  // by SHA-256 of the AK's TPMT_PUBLIC
  PersistentMap<evidence::TpmName, DeviceId> identities_;
  Set<DeviceId> revoked_devices_;               // for good
  PersistentMap<DeviceId, LeafIndex> retired_;  // by which leaf; enrolled, and not among those
  PersistentMap<DeviceId, LeafIndex> lost_;     // by which leaf; of the revoked ones
  Set<std::string> revoked_people_;
  Set<KeyId> revoked_tokens_;
  PersistentMap<CaseId, UnixMillis> revoked_cases_;  // until when this is remembered
  PersistentMap<CaseId, CaseTrace> cases_;
  std::optional<SnapshotMark> snapshot_;
  PersistentMap<CaseId, std::vector<CaseId>> holds_;
  // Everything above is in encode_control (control_codec.cpp); what is below follows from it, or changes
  // nothing. (That bodies are missing is no part of what every follower knows: erased_ and unnamed_.)
  Set<std::pair<UnixMillis, CaseId>> forget_;  // when, and what of the two maps above
  Set<CaseId> erased_;                         // of cases_, those that are
  struct Unnamed {
    LeafIndex first;
    UnixMillis opened;
  };
  PersistentMap<CaseId, Unnamed> unnamed_;  // erased, and no erasure has named them yet; never forgotten
  std::shared_ptr<const VerifiedAhead> known_;
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
//   Proves:         the leaf's place: time, predecessor, the order of kinds within its case, nothing after
//   its end; the body is the
//                   leaf's; a control statement's signatures and quorum hold under the policy in force; it is
//                   the case's one grant.
//   Does not prove: that a grant is right (verify_dossier), or that the leaf is in the log (the caller
//   compares roots). Errors:         kLogMissingBody, kLogBody, kLogOrder (time went back, another
//   predecessor), kTrustAnchor (first leaf), the
//                   reason of the case (kCaseExists, kCaseUnknown, kCaseExpired, kCaseDenied, kCaseClosed,
//                   kGrantExists, kPending, kGrantExpired), and the reason for which the statement does not
//                   hold.
Result<PreparedControl> prepare_control(const ControlState& state, const ledger::Leaf& leaf,
                                        const Entry* entry);
// prepare_erased is prepare_control for a leaf whose body is missing, of whatever erasable kind: as
// prepare_erased of the whole state, below.
Result<PreparedControl> prepare_erased(const ControlState& state, const ledger::Leaf& leaf);
// commit makes the change; `prepared` must have been made for this very state.
void commit(ControlState& state, PreparedControl prepared);

enum class CaseType : std::uint8_t { kAccess, kPolicy, kEnrolment, kRevocation, kErasure, kHold };
enum class CaseState : std::uint8_t { kRefusable, kOpen, kRefused, kDenied, kGranted, kClosed };

struct CountedApproval {
  LeafIndex index;
  Approval statement;
  Digest256 digest;
  KeyId token;
  bool attested = false;
  Entry entry;
};

// Case is one case, as far as the log has come. When it is over (refused, denied, closed; expired; a grant:
// once its time is over) its entries are dropped, `opening`, those of `approvals` and `closing`: memory grows
// with what is open, and the store has the rest.
struct Case {
  CaseId id;
  CaseType type = CaseType::kAccess;
  CaseState state = CaseState::kOpen;
  LeafIndex first, last;  // its first leaf, and its newest (the predecessor of the next)
  UnixMillis opened, expires;
  Digest256 opening_digest;                      // of the opening statement
  Entry opening;                                 // without attachments' bytes
  std::optional<Request> request;                // access cases
  std::optional<DecisionStatement> decision;     // access cases with a good outcome
  Digest256 to_approve;                          // what an approval must carry as `decision`
  std::optional<Reason> refusable;               // the reason for which only a refusal may follow
  std::string detail;                            // in words, for the person; never logged
  std::optional<policy::LimitedWay> limited;     // what the policy would have given instead
  std::optional<EnrolmentRequested> enrolment;   // enrolment cases
  std::optional<PolicyProposed> proposal;        // policy cases
  std::optional<ErasureProposed> erasure;        // erasure cases
  std::optional<evidence::VerifiedQuote> quote;  // access cases with a good outcome: the request's
  KeyId token;                                   // that signed the opening statement
  std::vector<Digest256> granted_by;             // the approvals that the grant names
  std::vector<CountedApproval> approvals;
  std::optional<Entry> closing;              // the grant
  std::optional<LeafIndex> closing_index;    // of the grant, policy, enrolment or erasure
  std::uint64_t sessions = 0;                // opened so far: the last channel's number
  std::vector<std::uint64_t> open_channels;  // sessions opened and not closed
};

// State is the whole fold: what a broker and an auditor know.
struct State {
  ControlState control;
  std::map<CaseId, Case> cases;  // as long as control remembers them
  std::map<CaseId, std::map<Digest256, LeafIndex>>
      statements;                                  // of those cases: where each is, by its digest
  std::map<DeviceId, evidence::ProvenBoot> boots;  // proved by each machine since it was enrolled
  // Machines whose counters went back get nothing until they are enrolled again, as asked for afterwards.
  struct Stop {
    CaseId case_id;                  // whose request showed it
    std::optional<LeafIndex> since;  // that request; none where it is not known any more
    friend bool operator==(const Stop&, const Stop&) = default;
  };
  std::map<DeviceId, Stop> stopped;
  std::map<KeyId, crypto::PublicKey>
      host_keys;  // of hosts that have reported: the policy has fingerprints only
  std::set<std::pair<UnixMillis, CaseId>> over;  // cases whose entries are to be dropped, and when
  bool lacks_boots = false;  // requests were erased: what they proved is neither in `boots` nor in `stopped`
};

// begin_state starts the whole fold before the first leaf.
State begin_state(Origin origin, Digest256 genesis_policy);

// check_not_stopped: the machine's counters have not gone back since it was enrolled, as far as requests
// tell. Errors: kDeviceStopped.
Status check_not_stopped(const State& state, const DeviceId& device);

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

// prepare says what an entry would change, or refuses it. A broker appends only what it accepts, an auditor
// replays with it.
//   Proves:         all that prepare_control proves; the statement is well-formed, signed by whom it must be,
//   in time and in order;
//                   a grant, refusal, policy or enrolment is the one that follows from the case.
//   Does not prove: that the leaf is in the log.
//   Errors:         the reason of the first check that failed. The state is untouched.
Result<Prepared> prepare(const State& state, const Entry& entry);
Result<Prepared> prepare(const State& state, const OpenedEntry& entry);
void commit(State& state, Prepared prepared);

// prepare_erased is prepare for a leaf whose body is missing: of an access case, all of whose bodies are.
// Only who replays what was stored asks it, never who takes a new leaf.
//   Proves:         the leaf's place, and that no body of its case was seen.
//   Does not prove: that its case was erased by whom it may be: check_complete, once all leaves are folded.
//                   Nothing is judged that needs the body.
//   Errors:         kLogMissingBody for every other leaf; the reasons of the leaf's place.
Result<Prepared> prepare_erased(const State& state, const ledger::Leaf& leaf);

// check_complete checks, at the end of a replay, that each case without bodies was named by an erasure that
// covers it. Errors: kUnverified/kLogMissingBody, of the first_unnamed.
Status check_complete(const ControlState& state);

// covers tells whether an erasure is of a case: it is named, and was opened before the erasure's `before`.
// The retention of a policy is longer than a case can live, so all its leaves are older than that.
bool covers(const ErasureProposed& erasure, const CaseId& case_id, UnixMillis opened);

// check_erasable checks that the policy lets somebody erase these cases at `at`: they are past its retention,
// forgotten, and not held. Errors: kErasureOff, kErasureNotDue, kErasureHeld.
Status check_erasable(const ControlState& state, const policy::Policy& policy, const ErasureProposed& erasure,
                      UnixMillis at);

// parse_erased gives what an erasure's entry, which was folded, has erased. Errors: kMalformed.
Result<ErasureProposed> parse_erased(const OpenedStatement& erasure);

// find_statement gives the leaf of a statement that its case has already.
std::optional<LeafIndex> find_statement(const State& state, const CaseId& case_id, const Digest256& digest);

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

// evaluate_request appraises a request's evidence and runs decide() under `policy`, as prepare,
// verify_dossier and the approver's own client do. `body` is the request's body, `blobs` its evidence.
//   Proves:  the request is signed by a live token of its person, made on a live enrolled device in its
//   enrolled boot state, with a
//            certified session key of the required template; the policy allows it, on the condition of the
//            decision's quorum.
//   Errors:  the reason a refusal would carry.
struct EvaluatedRequest {
  Request request;
  Digest256 request_digest;
  KeyId token;  // that signed it
  DecisionStatement decision;
  Bytes decision_payload;
  crypto::PublicKey session_key;
  evidence::VerifiedQuote quote;
  evidence::AcceptedBoot boot;  // which reference accepted it; of none where the form leaves that out
  std::optional<evidence::JudgedIma> ima;  // where the policy wants a list, and the form has it
};
// In the travel form the evidence lacks what only full dossiers have: then the boot state is not judged by
// its events.
Result<EvaluatedRequest> evaluate_request(const ControlState& control, const LoadedPolicy& policy,
                                          const Body& body, const BlobIndex& blobs,
                                          DossierForm form = DossierForm::kFull);

// predecessor_of gives the index that the next leaf of a case names: ledger::kNoPredecessor where there is no
// case.
std::uint64_t predecessor_of(const ControlState& control, const CaseId& case_id);

// The unsigned entries, as pure functions of the state. `time` is the leaf's; `nonce` the commitment's.
Result<Entry> compose_refusal(const State& state, const CaseId& case_id, UnixMillis time, const Nonce& nonce);
Result<Entry> compose_grant(const State& state, const CaseId& case_id, std::vector<Blob> activation,
                            UnixMillis time, const Nonce& nonce);
Result<Entry> compose_enrolment(const State& state, const CaseId& case_id, UnixMillis time,
                                const Nonce& nonce);
Result<Entry> compose_policy(const State& state, const CaseId& case_id, UnixMillis time, const Nonce& nonce);
Result<Entry> compose_erasure(const State& state, const CaseId& case_id, UnixMillis time, const Nonce& nonce);
// The case of a log's first policy is the first 16 bytes of its digest.
Entry compose_genesis(Origin origin, PolicyDocument policy, UnixMillis time, const Nonce& nonce);

// Continuation is what the first policy of a log needs that goes on from another one: the bytes of the state
// that it names, and what the people of that state have signed: envelopes of a policy-proposed of the case
// continuation_case(digest of the policy), in the name of the log before, and of approvals of it.
struct Continuation {
  Bytes state;
  Bytes proposal;
  std::vector<Bytes> approvals;
};
CaseId continuation_case(const Digest256& policy);
// As one file: "spcont01", u32-prefixed state and proposal, u8 count, u32-prefixed approvals. Errors:
// kMalformed.
Bytes encode_continuation(const Continuation& continuation);
Result<Continuation> parse_continuation(ByteView bytes);
Result<Entry> compose_continued(Origin origin, PolicyDocument policy, const Continuation& before,
                                UnixMillis time, const Nonce& nonce);

}  // namespace sallyport::record
