#pragma once

#include "client/terminal/command.h"

namespace sallyport::client::engineer {

// enrol asks for this machine's enrolment, or goes on with the one that is open, and answers the approvers'
// credential challenges with the TPM until the quorum has approved.
// A machine that is enrolled already, and not revoked for good, is so again only when that is said: `again`.
//   Errors: the reason of a refusal; kDeviceExists (enrolled, and not `again`); kConflict (one is open that
//   says something else); kCaseDenied; kPending after `patience` (the request stays; run it again to go on
//   answering).
struct Enrolled {
  CaseId case_id;
  DeviceId device;
  std::uint64_t leaf = 0;
};
Result<Enrolled> enrol(Opened& opened, tpm::Tpm& tpm, const std::string& name, const std::string& region,
                       std::chrono::milliseconds patience, bool again = false);

// strip_size takes the size off a TPM2B of at most 512 bytes: the parts of a credential challenge, as a
// broker carries them. Errors: kMalformed.
Result<Bytes> strip_size(ByteView tpm2b);

}  // namespace sallyport::client::engineer
