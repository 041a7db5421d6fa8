#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "attestation/base/result.h"

namespace sallyport::http {

// parse_number reads a decimal number, and nothing but that: no sign, no space. Errors: kMalformed, naming
// `what`.
Result<std::uint64_t> parse_number(std::string_view digits, std::string_view what);

// Target is a request's target in pieces: its path, and its query. It refers to the text it was made of.
class Target {
 public:
  explicit Target(std::string_view whole);
  std::string_view path() const { return path_; }

  // number gives the first query parameter of that name; absent: nothing. Errors: kMalformed (no number).
  Result<std::optional<std::uint64_t>> number(std::string_view name) const;
  Result<std::uint64_t> number_or(std::string_view name, std::uint64_t otherwise) const;

 private:
  std::string_view path_, query_;
};

}  // namespace sallyport::http
