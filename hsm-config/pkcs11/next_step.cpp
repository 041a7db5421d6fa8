#include "hsm-config/pkcs11/next_step.h"

#include <cstdio>
#include <string>

#include "hsm-config/pkcs11/ck.h"

namespace sallyport::pkcs11 {

namespace {

using enum Recovery;

#define SP_RV(rv) rv, #rv

// The table. Codes that mean the device went away begin the module anew; codes that mean our session or login
// is gone begin the session anew; a wrong PIN is never tried again.
constexpr NextStep kTable[] = {
    {SP_RV(CKR_HOST_MEMORY), Code::kUnavailable, Reason::kToken, Next::kRetryLater, kSession},
    {SP_RV(CKR_SLOT_ID_INVALID), Code::kUnavailable, Reason::kTokenAbsent, Next::kReopenSession, kModule},
    {SP_RV(CKR_GENERAL_ERROR), Code::kUnavailable, Reason::kToken, Next::kReopenSession, kSession},
    {SP_RV(CKR_FUNCTION_FAILED), Code::kUnavailable, Reason::kToken, Next::kReopenSession, kSession},
    {SP_RV(CKR_ARGUMENTS_BAD), Code::kInternal, Reason::kToken, Next::kGiveUp, kSession},
    {SP_RV(CKR_ACTION_PROHIBITED), Code::kDenied, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_ATTRIBUTE_READ_ONLY), Code::kDenied, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_ATTRIBUTE_SENSITIVE), Code::kDenied, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_ATTRIBUTE_TYPE_INVALID), Code::kUnavailable, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_ATTRIBUTE_VALUE_INVALID), Code::kUnavailable, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_DATA_INVALID), Code::kInternal, Reason::kToken, Next::kGiveUp, kSession},
    {SP_RV(CKR_DATA_LEN_RANGE), Code::kInternal, Reason::kToken, Next::kGiveUp, kSession},
    {SP_RV(CKR_DEVICE_ERROR), Code::kUnavailable, Reason::kToken, Next::kReopenSession, kModule},
    {SP_RV(CKR_DEVICE_MEMORY), Code::kUnavailable, Reason::kToken, Next::kRetryLater, kSession},
    {SP_RV(CKR_DEVICE_REMOVED), Code::kUnavailable, Reason::kTokenAbsent, Next::kReopenSession, kModule},
    {SP_RV(CKR_FUNCTION_CANCELED), Code::kUnavailable, Reason::kToken, Next::kRetryLater, kSession},
    {SP_RV(CKR_FUNCTION_NOT_SUPPORTED), Code::kUnavailable, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_KEY_HANDLE_INVALID), Code::kUnavailable, Reason::kTokenKey, Next::kReopenSession, kSession},
    {SP_RV(CKR_KEY_TYPE_INCONSISTENT), Code::kUnavailable, Reason::kTokenKey, Next::kGiveUp, kSession},
    {SP_RV(CKR_KEY_FUNCTION_NOT_PERMITTED), Code::kUnavailable, Reason::kTokenKey, Next::kGiveUp, kSession},
    {SP_RV(CKR_KEY_NOT_WRAPPABLE), Code::kDenied, Reason::kTokenKey, Next::kGiveUp, kNone},
    {SP_RV(CKR_KEY_UNEXTRACTABLE), Code::kDenied, Reason::kTokenKey, Next::kGiveUp, kNone},
    {SP_RV(CKR_MECHANISM_INVALID), Code::kUnavailable, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_MECHANISM_PARAM_INVALID), Code::kUnavailable, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_OBJECT_HANDLE_INVALID), Code::kUnavailable, Reason::kTokenKey, Next::kReopenSession, kSession},
    {SP_RV(CKR_OPERATION_ACTIVE), Code::kUnavailable, Reason::kToken, Next::kReopenSession, kSession},
    {SP_RV(CKR_OPERATION_NOT_INITIALIZED), Code::kUnavailable, Reason::kToken, Next::kReopenSession,
     kSession},
    {SP_RV(CKR_PIN_INCORRECT), Code::kDenied, Reason::kTokenPin, Next::kGiveUp, kNone},
    {SP_RV(CKR_PIN_INVALID), Code::kDenied, Reason::kTokenPin, Next::kGiveUp, kNone},
    {SP_RV(CKR_PIN_LEN_RANGE), Code::kDenied, Reason::kTokenPin, Next::kGiveUp, kNone},
    {SP_RV(CKR_PIN_EXPIRED), Code::kDenied, Reason::kTokenPin, Next::kCallOperator, kNone},
    {SP_RV(CKR_PIN_LOCKED), Code::kDenied, Reason::kTokenLocked, Next::kCallOperator, kNone},
    {SP_RV(CKR_USER_PIN_NOT_INITIALIZED), Code::kDenied, Reason::kTokenPin, Next::kCallOperator, kNone},
    {SP_RV(CKR_SESSION_CLOSED), Code::kUnavailable, Reason::kToken, Next::kReopenSession, kSession},
    {SP_RV(CKR_SESSION_COUNT), Code::kUnavailable, Reason::kToken, Next::kRetryLater, kSession},
    {SP_RV(CKR_SESSION_HANDLE_INVALID), Code::kUnavailable, Reason::kToken, Next::kReopenSession, kSession},
    {SP_RV(CKR_SESSION_READ_ONLY), Code::kDenied, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_TEMPLATE_INCOMPLETE), Code::kUnavailable, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_TEMPLATE_INCONSISTENT), Code::kUnavailable, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_TOKEN_NOT_PRESENT), Code::kUnavailable, Reason::kTokenAbsent, Next::kReopenSession, kModule},
    {SP_RV(CKR_TOKEN_NOT_RECOGNIZED), Code::kUnavailable, Reason::kTokenAbsent, Next::kReopenSession,
     kModule},
    {SP_RV(CKR_TOKEN_WRITE_PROTECTED), Code::kDenied, Reason::kToken, Next::kGiveUp, kNone},
    {SP_RV(CKR_USER_ALREADY_LOGGED_IN), Code::kConflict, Reason::kConflict, Next::kGiveUp, kNone},
    {SP_RV(CKR_USER_ANOTHER_ALREADY_LOGGED_IN), Code::kConflict, Reason::kConflict, Next::kGiveUp, kSession},
    {SP_RV(CKR_USER_NOT_LOGGED_IN), Code::kUnavailable, Reason::kToken, Next::kReopenSession, kSession},
    {SP_RV(CKR_CRYPTOKI_NOT_INITIALIZED), Code::kUnavailable, Reason::kToken, Next::kReopenSession, kModule},
    {SP_RV(CKR_CRYPTOKI_ALREADY_INITIALIZED), Code::kConflict, Reason::kConflict, Next::kGiveUp, kNone},
    // Everything else, vendors' own codes too.
    {~std::uint64_t{0}, "CKR_?", Code::kUnavailable, Reason::kToken, Next::kReopenSession, kSession},
};

#undef SP_RV

}  // namespace

const NextStep& next_step(std::uint64_t rv) {
  for (const NextStep& step : kTable) {
    if (step.rv == rv) return step;
  }
  return kTable[std::size(kTable) - 1];
}

Error error_of(std::uint64_t rv, std::string_view function, Where at) {
  const NextStep& step = next_step(rv);
  char code[32];
  std::snprintf(code, sizeof code, " (0x%llx)", static_cast<unsigned long long>(rv));
  std::string what{function};
  what.append(": ").append(step.name).append(code);
  return Error{step.code, step.reason, std::move(what), step.next, rv, at};
}

}  // namespace sallyport::pkcs11
