#pragma once

#include "client/terminal/command.h"

namespace sallyport::client::engineer {

// enrol asks for this machine's enrolment and answers the approvers' credential challenges with the TPM until
// the quorum has approved.
//   Errors: the reason of a refusal; kCaseDenied; kPending after `patience` (the request stays; run it again
//   to go on answering).
struct Enrolled {
  CaseId case_id;
  DeviceId device;
  std::uint64_t leaf = 0;
};
Result<Enrolled> enrol(Opened& opened, tpm::Tpm& tpm, const std::string& name, const std::string& region,
                       std::chrono::milliseconds patience);

}  // namespace sallyport::client::engineer
