#pragma once

#include "client/terminal/command.h"

namespace sallyport::client::approver {

// The ceremony of a new origin (broker/ledger/README.md): the people of the policy in force sign the first
// policy of a log that goes on from theirs. No broker is needed, since theirs may not take anything any more:
// one file goes from hand to hand.
//   policy continue propose POLICY --state FILE --to FILE [--roots FILE]
//   policy continue approve POLICY --file FILE [--roots FILE] [--confirm STATEMENT]
Result<int> continue_propose(const Arguments& arguments);
Result<int> continue_approve(const Arguments& arguments);
void continue_propose_flags(boost::program_options::options_description& flags);
void continue_approve_flags(boost::program_options::options_description& flags);

}  // namespace sallyport::client::approver
