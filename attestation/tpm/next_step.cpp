#include "attestation/tpm/next_step.h"

#include <tss2/tss2_common.h>

#include <array>
#include <cstdio>
#include <string>

namespace sallyport::tpm {
namespace {

struct Row {
  std::uint32_t rc;
  Code code;
  Reason reason;
  Next next;
  std::string_view meaning;
};

constexpr std::array kTable = {
    Row{kRcInitialize, Code::kUnavailable, Reason::kTpmAbsent, Next::kCallOperator,
        "the TPM was not started"},
    Row{kRcFailure, Code::kUnavailable, Reason::kTpm, Next::kCallOperator,
        "the TPM reported a failure of its own"},
    Row{0x120, Code::kUnavailable, Reason::kTpm, Next::kCallOperator, "the command is disabled"},
    Row{0x143, Code::kUnavailable, Reason::kTpm, Next::kCallOperator,
        "the TPM does not implement the command"},
    Row{kRcPolicy, Code::kDenied, Reason::kBootCounters, Next::kGiveUp,
        "the counters are not those of the policy"},
    Row{kRcPcrChanged, Code::kConflict, Reason::kTpmPcrChanged, Next::kReopenSession,
        "a PCR changed after the policy check"},
    Row{kRcAuthUnavailable, Code::kDenied, Reason::kTpm, Next::kGiveUp,
        "the key can only be used through its policy"},
    Row{0x153, Code::kInternal, Reason::kTpm, Next::kGiveUp, "the command has too many bytes"},
    Row{0x082, Code::kUnavailable, Reason::kTpm, Next::kGiveUp, "the TPM does not accept these attributes"},
    Row{kRcValue, Code::kDenied, Reason::kTpm, Next::kGiveUp,
        "a value is out of range, or not that of the policy"},
    Row{0x085, Code::kUnavailable, Reason::kTpm, Next::kCallOperator, "the hierarchy is disabled"},
    Row{kRcHandle, Code::kConflict, Reason::kTpm, Next::kReopenSession,
        "the object or session is not in the TPM"},
    Row{0x08E, Code::kDenied, Reason::kTpm, Next::kCallOperator,
        "the hierarchy has a password that we do not know"},
    Row{kRcNonce, Code::kUnverified, Reason::kTpm, Next::kGiveUp, "the nonce is of another session"},
    Row{kRcSignature, Code::kUnverified, Reason::kUnverified, Next::kGiveUp, "the signature does not hold"},
    Row{kRcPolicyFail, Code::kDenied, Reason::kTpm, Next::kGiveUp,
        "the policy is not satisfied for this command"},
    Row{kRcIntegrity, Code::kUnverified, Reason::kTpm, Next::kGiveUp, "the integrity check failed"},
    Row{0x0A2, Code::kDenied, Reason::kTpm, Next::kCallOperator,
        "the hierarchy has a password that we do not know"},
    Row{kRcExpired, Code::kStale, Reason::kLeaseExpired, Next::kReopenSession, "the lease has expired"},
    Row{0x0A7, Code::kMalformed, Reason::kTpm, Next::kGiveUp, "the point is not on the curve"},
    Row{kRcContextGap, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater, "a saved session is too old"},
    Row{kRcObjectMemory, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater,
        "no room for another object"},
    Row{kRcSessionMemory, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater,
        "no room for another session"},
    Row{kRcMemory, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater, "out of memory"},
    Row{kRcSessionHandles, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater,
        "no session handle is free"},
    Row{kRcObjectHandles, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater,
        "no object handle is free"},
    Row{kRcYielded, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater, "the TPM suspended the command"},
    Row{kRcTesting, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater, "the TPM is testing itself"},
    Row{kRcReferenceH0, Code::kConflict, Reason::kTpm, Next::kReopenSession, "the object is not in the TPM"},
    Row{kRcReferenceS0, Code::kConflict, Reason::kTpm, Next::kReopenSession, "the session is not in the TPM"},
    Row{kRcNvRate, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater,
        "the TPM limits the rate of NV writes"},
    Row{0x921, Code::kUnavailable, Reason::kTpm, Next::kCallOperator,
        "the TPM is in dictionary attack lockout"},
    Row{kRcRetry, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater,
        "the TPM could not take the command now"},
    Row{0x923, Code::kUnavailable, Reason::kTpmBusy, Next::kRetryLater,
        "the TPM's NV memory is not available"},
};

}  // namespace

std::uint32_t base_rc(std::uint64_t rc) {
  const auto code = static_cast<std::uint32_t>(rc);
  if ((code & 0xFFFF0000) != 0) return code;
  // Format one (bit 7): six bits of error; bit 6, bits 8-11 say which parameter, handle or session.
  return (code & 0x080) != 0 ? code & 0x0BF : code;
}

Error device_error(std::uint32_t rc, std::string_view doing, Where where) {
  std::array<char, 16> hex{};
  std::snprintf(hex.data(), hex.size(), "0x%x", rc);
  const auto make = [&](Code code, Reason reason, Next next, std::string_view meaning) {
    return Error{code, reason, std::string{doing} + ": " + std::string{meaning} + " (" + hex.data() + ")",
                 next, rc,     where};
  };
  if ((rc & TSS2_RC_LAYER_MASK) == TSS2_TCTI_RC_LAYER) {
    return make(Code::kUnavailable, Reason::kTpmAbsent, Next::kRetryLater, "no connection to the TPM");
  }
  for (const Row& row : kTable)
    if (row.rc == base_rc(rc)) return make(row.code, row.reason, row.next, row.meaning);
  return make(Code::kUnavailable, Reason::kTpm, Next::kGiveUp, "the TPM refused");
}

}  // namespace sallyport::tpm
