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

}  // namespace sallyport::record
