#pragma once

#include <map>

#include "attestation/record/canonical_json.h"
#include "client/terminal/command.h"

namespace sallyport::client::approver {

// send_list submits a list-approval, and again while the broker cannot go on: the same list goes on where it
// ended. Gives what became of each case. Errors: those of the broker, for the list as a whole.
Result<std::vector<api::Submitted>> send_list(Opened& opened, const record::Submission& list);

// tell_outcomes prints on stdout what became of each case of a list, by this machine's own log where it
// knows; with -f json one object, with `more` among its members. Waits until it is under witnesses. Gives the
// exit code: of the first that was not recorded, or not closed when it should have been.
int tell_outcomes(Opened& opened, const std::vector<api::Submitted>& outcomes,
                  const std::map<CaseId, std::string>& names, std::vector<record::json::Member> more,
                  bool json);

}  // namespace sallyport::client::approver
