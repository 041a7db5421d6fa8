#pragma once

#include "attestation/record/snapshot.h"
#include "client/terminal/command.h"

namespace sallyport::client::approver {

// The ceremony of a new origin (broker/ledger/README.md): the people of the policy in force sign the first
// policy of a log that goes on from theirs. No broker is needed, since theirs may not take anything any more:
// one file goes from hand to hand.
//   policy continue propose POLICY --state FILE --to FILE [--roots FILE]
//   policy continue approve POLICY --file FILE [--roots FILE] [--confirm STATEMENT]
// judge_continuation has the fold say what it would say of the first leaf of the log that begins with `next`
// and goes on from `before`.
//   Proves:         true: the log could begin now. False: the quorum is not met yet; what is signed so far
//                   holds. Of a proposal that nobody has approved that is: it is of this policy, and signed
//                   by a live token of the policy before.
//   Does not prove: that `before` is the newest state of its log (check_continues).
//   Errors:         the reason for which what is signed does not hold.
Result<bool> judge_continuation(const record::ControlState& before, const record::LoadedPolicy& next,
                                const record::Continuation& continuation, UnixMillis now);

Result<int> continue_propose(const Arguments& arguments);
Result<int> continue_approve(const Arguments& arguments);
void continue_propose_flags(boost::program_options::options_description& flags);
void continue_approve_flags(boost::program_options::options_description& flags);

}  // namespace sallyport::client::approver
