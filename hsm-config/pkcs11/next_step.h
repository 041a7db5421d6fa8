#pragma once

#include <cstdint>
#include <string_view>

#include "attestation/base/error.h"

namespace sallyport::pkcs11 {

// What has to be begun anew before the next call: nothing, this session, or the whole module.
enum class Recovery : std::uint8_t { kNone, kSession, kModule };

struct NextStep {
  std::uint64_t rv;  // CK_RV
  std::string_view name;
  Code code;
  Reason reason;
  Next next;
  Recovery recovery;
};

// next_step looks a CK_RV up in the one table that turns this device's codes into what the caller can do.
const NextStep& next_step(std::uint64_t rv);

// error_of makes the error of a call that returned `rv`, which is not CKR_OK. `function` is the PKCS #11
// name.
Error error_of(std::uint64_t rv, std::string_view function, Where at = {});

}  // namespace sallyport::pkcs11
