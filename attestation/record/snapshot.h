#pragma once

#include "attestation/record/state.h"

// Snapshots: the bytes of a ControlState, the leaf that commits to them, and how a follower begins from it
// (README.md, "Snapshots").
namespace sallyport::record {

// encode_control gives the one byte string of a state. Two folds of the same leaves give the same. It may be
// larger than kMaxControlBytes: then it does not parse, and there is no snapshot of it.
Bytes encode_control(const ControlState& state);

// parse_control takes only the one byte string of a state: encode_control(result) == bytes.
//   Proves:         form, caps and order; policies load and succeed each other; attestation keys have their
//                   template.
//   Does not prove: that the state is the fold of any log: compare its digest with a snapshot leaf, and see
//                   join_control.
//   Errors:         kMalformed (with kPolicyInvalid where a policy does not load); kUnverified/kKeyTemplate.
Result<ControlState> parse_control(ByteView bytes);

// check_continues checks that a state from which another log is to go on is not behind what `own` knows of
// that log.
//   Proves:  the same log, and the same policy in force, so that its people are those whom `own` knows; at
//   the same
//            size the very same state, at a larger one nothing is missing that is revoked in `own`.
//   Errors:  kTrustAnchor (another log, or `own` has taken nothing); kLogRollback (`own` has seen more, or a
//            revocation is missing); kLogFork (another state at the same size); kPolicyChanged.
Status check_continues(const ControlState& own, const ControlState& before);

// snapshot_case is the case of the snapshot of a state: nobody chooses it.
CaseId snapshot_case(const Origin& origin, std::uint64_t size, const Digest256& state);

// compose_snapshot makes the entry of a snapshot of `control`, to be the very next leaf. Pure.
//   Errors: kRateLimited within kSnapshotGap of the one before; kConflict when there is nothing after it;
//           kLogSnapshot when the state is larger than kMaxControlBytes.
Result<Entry> compose_snapshot(const ControlState& control, UnixMillis time, const Nonce& nonce);

// earliest_remembered is the first leaf of the earliest case that the state still knows: what comes to such a
// case may be shown with any leaf from there on. The state's size where it knows none.
LeafIndex earliest_remembered(const ControlState& state);

// Joining is what a follower is given to begin from a snapshot instead of from the first leaf. Nothing of it
// is believed.
struct Joining {
  std::vector<Entry> policies;  // the leaves of all policies, version 1 first; their blobs are in `state`
  ledger::CompactRange before;  // of the tree before `leaves`
  std::vector<ledger::Leaf> leaves;  // up to the snapshot: those of the cases that are remembered
  Entry snapshot;
  Bytes state;  // before the snapshot's leaf
};
inline constexpr std::size_t kMaxJoiningBytes = 72u << 20;
inline constexpr std::uint32_t kMaxJoiningLeaves = 1u << 18;

// parse_joining takes only the one byte string: encode_joining(result) == bytes. Its caller keeps to the
// caps. Errors: kMalformed.
Result<Joining> parse_joining(ByteView bytes);
Bytes encode_joining(const Joining& joining);

// join_control gives the state after a snapshot's leaf.
//   Proves:         the policies begin with the one that is pinned, and each later one was proposed and
//                   approved by the change quorum of the one before; they are exactly those of the state; the
//                   snapshot commits to the state; `leaves` lead to its tree.
//   Does not prove: that the state is the fold of the leaves before it: that is the word of log key and
//                   witnesses, once the caller has compared the root with theirs. Who had been revoked when a
//                   policy was approved; that policies from before `leaves` are leaves of the tree.
//   Errors:         kTrustAnchor (of another log, or another first policy); kLogSnapshot (parts that are not
//                   of each other), kLogBody, kQuorumNotMet and others of a policy's leaf; kMalformed.
Result<ControlState> join_control(const Origin& origin, const Digest256& genesis_policy,
                                  const Joining& joining);

}  // namespace sallyport::record
