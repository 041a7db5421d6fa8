#pragma once

#include <span>
#include <string>
#include <vector>

#include "hsm-config/pkcs11/token.h"

namespace sallyport::pkcs11 {

// ProbeReport says what was tried: names such as "read-value" or "copy-extractable".
struct ProbeReport {
  std::vector<std::string> refused;    // as it must be
  std::vector<std::string> succeeded;  // which must not
  std::vector<std::string> untried;    // the token has no mechanism for it
};

// probe_token tries on a token what must be refused: to read, wrap or copy the value of a key that is not
// extractable, to make such a key extractable or less sensitive, to derive with a key for signing and the
// reverse, to change a key that is not modifiable. It makes session keys for that, which vanish, and tries on
// `keys`, which are in use, everything that would leave them as they are.
//   Proves:         the token refused these attempts, now.
//   Does not prove: that the token is what it says, or refuses other attempts. Attributes stay a claim of the
//   vendor. Errors:         kHsmProbe naming what succeeded; kToken… when the probe itself cannot run.
Result<ProbeReport> probe_token(const Token& token, std::span<const KeyHandle> keys = {});

}  // namespace sallyport::pkcs11
