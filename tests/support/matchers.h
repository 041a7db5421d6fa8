#pragma once

#include <gmock/gmock.h>

#include "attestation/base/result.h"

namespace sallyport::test {

// EXPECT_THAT(result, Succeeds()), and EXPECT_THAT(result, FailsWith(Code::kStale)) or
// FailsWith(Reason::kQuoteNonce).
MATCHER(Succeeds, "succeeds") {
  if (arg.has_value()) return true;
  *result_listener << "which failed with " << describe(arg.error());
  return false;
}
MATCHER_P(FailsWithCode, code, "fails with " + std::string{code_name(code)}) {
  if (arg.has_value()) {
    *result_listener << "which succeeded";
    return false;
  }
  *result_listener << "which failed with " << describe(arg.error());
  return arg.error().code == code;
}
MATCHER_P(FailsWithReason, reason, "fails with " + std::string{reason_name(reason)}) {
  if (arg.has_value()) {
    *result_listener << "which succeeded";
    return false;
  }
  *result_listener << "which failed with " << describe(arg.error());
  return arg.error().reason == reason;
}
inline auto FailsWith(Code code) {
  return FailsWithCode(code);
}
inline auto FailsWith(Reason reason) {
  return FailsWithReason(reason);
}

// value_of unwraps a Result whose failure would make the rest of a test meaningless.
template <class T>
T value_of(Result<T> result) {
  if (!result.has_value()) {
    ADD_FAILURE() << describe(result.error());
    std::abort();
  }
  return std::move(result).value();
}

}  // namespace sallyport::test
