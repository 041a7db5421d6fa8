#pragma once

#include "client/terminal/command.h"

namespace sallyport::client::engineer {

// enrol asks for this machine's enrolment, or goes on with the one that is open, and answers the approvers'
// credential challenges with the TPM until the quorum has approved.
//   Errors: the reason of a refusal; kConflict (one is open that says something else); kCaseDenied; kPending
//   after `patience` (the request stays; run it again to go on answering).
struct Enrolled {
  CaseId case_id;
  DeviceId device;
  std::uint64_t leaf = 0;
};
Result<Enrolled> enrol(Opened& opened, tpm::Tpm& tpm, const std::string& name, const std::string& region,
                       std::chrono::milliseconds patience);

// strip_size takes the size off a TPM2B of at most 512 bytes: the parts of a credential challenge, as a
// broker carries them. Errors: kMalformed.
Result<Bytes> strip_size(ByteView tpm2b);

}  // namespace sallyport::client::engineer
