#pragma once

#include <chrono>
#include <span>
#include <vector>

#include "client/approver/check.h"
#include "client/terminal/command.h"

namespace sallyport::client::approver {

// challenge_machines asks the TPM of each machine under review to show that it holds its key, all at once,
// and waits for their answers. Only this process knows the secrets.
//   Proves: what check_answer proves, of each machine for which it gives true. The others have not answered
//   within `patience`, or their cases ended meanwhile.
//   Errors: kCredentialChallenge, naming the case: a machine has answered, and wrongly. Those of the broker.
Result<std::vector<bool>> challenge_machines(Opened& opened, std::span<const Review> reviews,
                                             std::chrono::seconds patience);

}  // namespace sallyport::client::approver
