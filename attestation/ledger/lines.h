#pragma once

#include <string_view>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"
#include "attestation/base/strong.h"

// What the texts of this room have in common. For this room only.
namespace sallyport::ledger {

// LineReader takes a text apart into lines that each end in a newline.
class LineReader {
 public:
  explicit LineReader(std::string_view text) : rest_(text) {}
  bool at_end() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }
  Result<std::string_view> line() {
    const std::size_t end = rest_.find('\n');
    if (end == std::string_view::npos) return Error{Code::kMalformed, "a line without its end"};
    const std::string_view taken = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return taken;
  }

 private:
  std::string_view rest_;
};

// parse_decimal takes ASCII decimal without sign or leading zeros, at most `max`.
Result<std::uint64_t> parse_decimal(std::string_view text, std::uint64_t max);

// parse_hash takes the base64 of 32 bytes.
Result<Digest256> parse_hash(std::string_view text);

// check_text takes UTF-8 (no surrogates, no overlong forms) without control characters below U+0020 but
// newline.
Status check_text(std::string_view text);

// has_space tells whether valid UTF-8 holds white space as Unicode defines it (White_Space).
bool has_space(std::string_view text);

}  // namespace sallyport::ledger
