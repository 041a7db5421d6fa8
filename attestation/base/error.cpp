#include "attestation/base/error.h"

#include <array>
#include <cstdio>
#include <cstdlib>

namespace sallyport {
namespace {

struct ReasonRow {
  std::string_view name;
  int exit_code;
  std::string_view sentence;
};

constexpr std::array kReasons = {
#define SP_REASON_ROW(enumerator, name, exit, sentence) ReasonRow{name, exit, sentence},
    SP_REASONS(SP_REASON_ROW)
#undef SP_REASON_ROW
};

const ReasonRow& row(Reason reason) {
  const auto index = static_cast<std::size_t>(reason);
  SP_ASSERT(index < kReasons.size());
  return kReasons[index];
}

}  // namespace

std::string_view reason_name(Reason reason) { return row(reason).name; }
std::string_view reason_sentence(Reason reason) { return row(reason).sentence; }
int reason_exit_code(Reason reason) { return row(reason).exit_code; }

std::optional<Reason> find_reason(std::string_view name) {
  for (std::size_t i = 0; i < kReasons.size(); ++i)
    if (kReasons[i].name == name) return static_cast<Reason>(i);
  return std::nullopt;
}

Reason Error::default_reason(Code code) {
  switch (code) {
    case Code::kMalformed: return Reason::kMalformed;
    case Code::kUnverified: return Reason::kUnverified;
    case Code::kStale: return Reason::kStale;
    case Code::kDenied: return Reason::kDenied;
    case Code::kConflict: return Reason::kConflict;
    case Code::kUnavailable: return Reason::kUnavailable;
    case Code::kInternal: return Reason::kInternal;
  }
  return Reason::kInternal;
}

std::string_view code_name(Code code) { return reason_name(Error::default_reason(code)); }

std::string describe(const Error& error) {
  std::string text{reason_name(error.reason)};
  text += ": " + error.what;
  if (error.device_rc != 0) {
    char rc[32];
    std::snprintf(rc, sizeof rc, " [rc 0x%llx]", static_cast<unsigned long long>(error.device_rc));
    text += rc;
  }
  std::string_view file{error.where.file};
  if (const auto slash = file.rfind('/'); slash != std::string_view::npos) file.remove_prefix(slash + 1);
  return text + " (" + std::string{file} + ":" + std::to_string(error.where.line) + ")";
}

int exit_code_of(const Error& error) { return reason_exit_code(error.reason); }

int http_status_of(const Error& error) {
  switch (error.code) {
    case Code::kMalformed: return 400;
    case Code::kUnverified: return 422;
    case Code::kStale: return 422;
    case Code::kDenied: return 403;
    case Code::kConflict: return 409;
    case Code::kUnavailable: return 503;
    case Code::kInternal: return 500;
  }
  return 500;
}

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "sallyport: broken promise: %s (%s:%d)\n", expression, file, line);
  std::abort();
}

}  // namespace sallyport
