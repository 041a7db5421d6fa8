#include "attestation/base/base64.h"

#include <array>

namespace sallyport {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<std::int8_t, 256> kValues = [] {
  std::array<std::int8_t, 256> values{};
  for (auto& v : values) v = -1;
  for (int i = 0; i < 64; ++i) values[static_cast<std::uint8_t>(kAlphabet[i])] = static_cast<std::int8_t>(i);
  return values;
}();

}  // namespace

std::string to_base64(ByteView bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t word = static_cast<std::uint32_t>(bytes[i]) << 16;
    if (left > 1) word |= static_cast<std::uint32_t>(bytes[i + 1]) << 8;
    if (left > 2) word |= bytes[i + 2];
    text.push_back(kAlphabet[word >> 18]);
    text.push_back(kAlphabet[word >> 12 & 63]);
    text.push_back(left > 1 ? kAlphabet[word >> 6 & 63] : '=');
    text.push_back(left > 2 ? kAlphabet[word & 63] : '=');
  }
  return text;
}

std::string to_base64url(ByteView bytes) {
  std::string text = to_base64(bytes);
  while (!text.empty() && text.back() == '=') text.pop_back();
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}

Result<Bytes> parse_base64(std::string_view text, std::size_t max_bytes) {
  if (text.size() % 4 != 0) return Error{Code::kMalformed, "base64 without its padding"};
  if (text.size() / 4 * 3 > max_bytes + 2) return Error{Code::kMalformed, "base64 longer than its cap"};
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;

  Bytes bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const std::size_t pad = i + 4 == text.size() ? padding : 0;
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const int value = j >= 4 - pad ? 0 : kValues[static_cast<std::uint8_t>(text[i + j])];
      if (value < 0) return Error{Code::kMalformed, "not base64"};
      word = word << 6 | static_cast<std::uint32_t>(value);
    }
    if ((pad == 1 && (word & 0xFF) != 0) || (pad == 2 && (word & 0xFFFF) != 0))
      return Error{Code::kMalformed, "base64 with unused bits set"};
    bytes.push_back(static_cast<std::uint8_t>(word >> 16));
    if (pad < 2) bytes.push_back(static_cast<std::uint8_t>(word >> 8));
    if (pad < 1) bytes.push_back(static_cast<std::uint8_t>(word));
  }
  if (bytes.size() > max_bytes) return Error{Code::kMalformed, "base64 longer than its cap"};
  return bytes;
}

}  // namespace sallyport
