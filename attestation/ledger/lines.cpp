#include "attestation/ledger/lines.h"

#include "attestation/base/base64.h"

namespace sallyport::ledger {
namespace {

constexpr char32_t kInvalid = 0xFFFFFFFF;

// next_rune takes one code point off the front of `text`, or gives kInvalid.
char32_t next_rune(std::string_view& text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(0);
  std::size_t size = 0;
  char32_t rune = 0, smallest = 0;
  if (first < 0x80) {
    text.remove_prefix(1);
    return first;
  } else if ((first & 0xE0) == 0xC0) {
    size = 2, rune = first & 0x1F, smallest = 0x80;
  } else if ((first & 0xF0) == 0xE0) {
    size = 3, rune = first & 0x0F, smallest = 0x800;
  } else if ((first & 0xF8) == 0xF0) {
    size = 4, rune = first & 0x07, smallest = 0x10000;
  } else {
    return kInvalid;
  }
  if (text.size() < size) return kInvalid;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return kInvalid;
    rune = rune << 6 | (byte(i) & 0x3F);
  }
  if (rune < smallest || rune > 0x10FFFF || (rune >= 0xD800 && rune <= 0xDFFF)) return kInvalid;
  text.remove_prefix(size);
  return rune;
}

bool is_space(char32_t rune) {
  return (rune >= 0x09 && rune <= 0x0D) || rune == 0x20 || rune == 0x85 || rune == 0xA0 || rune == 0x1680 ||
         (rune >= 0x2000 && rune <= 0x200A) || rune == 0x2028 || rune == 0x2029 || rune == 0x202F ||
         rune == 0x205F || rune == 0x3000;
}

}  // namespace

Result<std::uint64_t> parse_decimal(std::string_view text, std::uint64_t max) {
  if (text.empty() || text.size() > 20) return Error{Code::kMalformed, "not a decimal number"};
  if (text.size() > 1 && text[0] == '0') return Error{Code::kMalformed, "a number with a leading zero"};
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return Error{Code::kMalformed, "not a decimal number"};
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (value > (max - digit) / 10 || digit > max)
      return Error{Code::kMalformed, "a number that is too large"};
    value = value * 10 + digit;
  }
  return value;
}

Result<Digest256> parse_hash(std::string_view text) {
  if (text.size() != 44) return Error{Code::kMalformed, "not the base64 of a hash"};
  SP_TRY(const Bytes bytes, parse_base64(text, 32));
  if (bytes.size() != 32) return Error{Code::kMalformed, "not the base64 of a hash"};
  ByteArray<32> hash;
  std::memcpy(hash.data(), bytes.data(), hash.size());
  return Digest256{hash};
}

Status check_text(std::string_view text) {
  while (!text.empty()) {
    const char32_t rune = next_rune(text);
    if (rune == kInvalid) return Error{Code::kMalformed, "text that is not UTF-8"};
    if (rune < 0x20 && rune != '\n') return Error{Code::kMalformed, "text with a control character"};
  }
  return Done{};
}

bool has_space(std::string_view text) {
  while (!text.empty()) {
    const char32_t rune = next_rune(text);
    if (rune == kInvalid) return true;
    if (is_space(rune)) return true;
  }
  return false;
}

}  // namespace sallyport::ledger
