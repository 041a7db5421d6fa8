#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "attestation/base/reason.h"

namespace sallyport {

// Where an error was made. (std::source_location is not usable with clang 14.)
struct Where {
  const char* file = __builtin_FILE();
  std::uint32_t line = __builtin_LINE();
};

// Code is the class of an error: it decides the HTTP status and, unless the reason is more specific, the exit code.
enum class Code : std::uint8_t { kMalformed, kUnverified, kStale, kDenied, kConflict, kUnavailable, kInternal };

// Next is what the caller can do about it.
enum class Next : std::uint8_t { kGiveUp, kRetryLater, kReopenSession, kCallOperator };

struct Error {
  Code code;
  Reason reason;                 // stable; what a person is told comes from it
  std::string what;              // for our own log: no secret, and peers' text escaped
  Next next = Next::kGiveUp;
  std::uint64_t device_rc = 0;   // TSS2_RC or CK_RV as received
  Where where = {};

  Error(Code c, Reason r, std::string w, Where at = {}) : code(c), reason(r), what(std::move(w)), where(at) {}
  Error(Code c, std::string w, Where at = {}) : code(c), reason(default_reason(c)), what(std::move(w)), where(at) {}
  Error(Code c, Reason r, std::string w, Next n, std::uint64_t rc, Where at = {})
      : code(c), reason(r), what(std::move(w)), next(n), device_rc(rc), where(at) {}

  static Reason default_reason(Code code);
};

// code_name gives the stable spelling of a class: "malformed", "unverified", …
std::string_view code_name(Code code);

// describe renders an error for a log: "reason: what (file:line)".
std::string describe(const Error& error);

// exit_code_of gives the exit code of `sallyport` for an error: the most specific of what the reason and the class say.
int exit_code_of(const Error& error);

// http_status_of gives the HTTP status a peer sees.
int http_status_of(const Error& error);

// Stops the process, in every build: for our own broken promises, never for a stranger's bytes.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace sallyport

#define SP_ASSERT(expression) \
  ((expression) ? static_cast<void>(0) : ::sallyport::assertion_failed(#expression, __FILE__, __LINE__))
