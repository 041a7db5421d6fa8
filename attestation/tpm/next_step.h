#pragma once

#include <cstdint>
#include <string_view>

#include "attestation/base/error.h"

namespace sallyport::tpm {

// Response codes that callers in this room look at (TPM 2.0 Library Part 2 rev 1.38 §6.6.3 TPM_RC), without
// the parameter, handle or session number that a TPM adds to those of format one.
inline constexpr std::uint32_t kRcInitialize = 0x100, kRcFailure = 0x101, kRcPolicy = 0x126,
                               kRcPcrChanged = 0x128, kRcAuthUnavailable = 0x12F, kRcValue = 0x084,
                               kRcHandle = 0x08B, kRcPolicyFail = 0x09D, kRcNonce = 0x08F,
                               kRcSignature = 0x09B, kRcIntegrity = 0x09F, kRcExpired = 0x0A3,
                               kRcContextGap = 0x901, kRcObjectMemory = 0x902, kRcSessionMemory = 0x903,
                               kRcMemory = 0x904, kRcSessionHandles = 0x905, kRcObjectHandles = 0x906,
                               kRcYielded = 0x908, kRcTesting = 0x90A, kRcReferenceH0 = 0x910,
                               kRcReferenceS0 = 0x918, kRcNvRate = 0x920, kRcRetry = 0x922;

// base_rc takes the parameter, handle or session number out of a TPM's response code; codes of other layers
// stay as they are.
std::uint32_t base_rc(std::uint64_t rc);

// device_error is the one table that turns a TSS2_RC into class, reason and next step. `doing` is the
// command, for the log.
Error device_error(std::uint32_t rc, std::string_view doing, Where where = {});

}  // namespace sallyport::tpm
