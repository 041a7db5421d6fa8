#include "attestation/policy/syntax.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "attestation/base/base64.h"
#include "attestation/policy/network.h"

namespace sallyport::policy {
namespace {

bool lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool digit(char c) {
  return c >= '0' && c <= '9';
}
bool upper(char c) {
  return c >= 'A' && c <= 'Z';
}

template <class Allowed>
bool made_of(std::string_view text, std::size_t max, Allowed allowed) {
  return !text.empty() && text.size() <= max && std::all_of(text.begin(), text.end(), allowed);
}

// number takes decimal digits without a leading zero, 1 … max.
std::optional<std::uint32_t> number(std::string_view text, std::uint32_t max) {
  std::uint32_t value = 0;
  if (text.empty() || text.front() == '0' || !digit(text.front())) return std::nullopt;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size() || value > max) return std::nullopt;
  return value;
}

// every_part splits at `separator` and asks `good` of each part.
template <class Good>
bool every_part(std::string_view text, char separator, Good good) {
  while (true) {
    const std::size_t at = text.find(separator);
    if (!good(text.substr(0, at))) return false;
    if (at == std::string_view::npos) return true;
    text.remove_prefix(at + 1);
  }
}

}  // namespace

bool is_id(std::string_view text) {
  return made_of(text, 64, [](char c) { return lower(c) || digit(c) || c == '.' || c == '_' || c == '-'; }) &&
         (lower(text.front()) || digit(text.front()));
}

bool is_person_id(std::string_view text) {
  return made_of(text, 128,
                 [](char c) {
                   return lower(c) || digit(c) || c == '.' || c == '_' || c == '-' || c == '+' || c == '@';
                 }) &&
         (lower(text.front()) || digit(text.front())) && text.back() != '@' &&
         std::count(text.begin(), text.end(), '@') <= 1;
}

bool is_dns_name(std::string_view text) {
  return text.size() <= 253 && every_part(text, '.', [](std::string_view label) {
           return made_of(label, 63, [](char c) { return lower(c) || digit(c) || c == '-'; }) &&
                  label.front() != '-' && label.back() != '-';
         });
}

bool is_origin(std::string_view text) {
  if (text.size() > 200) return false;
  const std::size_t generation = text.rfind('/');
  if (generation == std::string_view::npos || !number(text.substr(generation + 1), 999'999)) return false;
  text = text.substr(0, generation);
  if (!text.ends_with("/log")) return false;
  text.remove_suffix(4);
  const std::size_t domain = text.find('/');
  if (!is_dns_name(text.substr(0, domain)) || text.substr(0, domain).find('.') == std::string_view::npos)
    return false;
  return domain == std::string_view::npos || every_part(text.substr(domain + 1), '/', is_id);
}

bool is_endpoint(std::string_view text) {
  constexpr std::string_view kScheme = "https://";
  if (!text.starts_with(kScheme) || text.size() > 300) return false;
  text.remove_prefix(kScheme.size());
  std::string_view host, port;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return false;
    host = text.substr(1, close - 1);
    port = text.substr(close + 1);
    const auto address = parse_address(host);
    if (!address || host.find(':') == std::string_view::npos) return false;
  } else {
    const std::size_t colon = text.find(':');
    host = text.substr(0, colon);
    port = colon == std::string_view::npos ? std::string_view{} : text.substr(colon);
    if (!is_dns_name(host)) return false;
  }
  return port.empty() || (port.front() == ':' && number(port.substr(1), 65535).has_value());
}

bool is_country(std::string_view text) {
  return text.size() == 2 && upper(text[0]) && upper(text[1]);
}

bool is_account(std::string_view text) {
  return made_of(text, 32, [](char c) { return lower(c) || digit(c) || c == '_' || c == '-'; }) &&
         (lower(text.front()) || text.front() == '_');
}

bool is_command(std::string_view text) {
  if (!text.starts_with('/') || text.size() > 256) return false;
  return every_part(text.substr(1), '/', [](std::string_view part) {
    return part != "." && part != ".." && made_of(part, 255, [](char c) {
             return lower(c) || upper(c) || digit(c) || c == '.' || c == '_' || c == '-';
           });
  });
}

bool is_fingerprint(std::string_view text) {
  constexpr std::string_view kPrefix = "SHA256:";
  if (!text.starts_with(kPrefix) || text.size() != kPrefix.size() + 43) return false;
  return parse_base64(std::string{text.substr(kPrefix.size())} + "=", 32).has_value();
}

std::optional<std::chrono::seconds> parse_duration(std::string_view text) {
  if (text.size() < 2) return std::nullopt;
  const auto value = number(text.substr(0, text.size() - 1), 1'000'000);
  if (!value) return std::nullopt;
  switch (text.back()) {
    case 's':
      return std::chrono::seconds{*value};
    case 'm':
      return std::chrono::minutes{*value};
    case 'h':
      return std::chrono::hours{*value};
    case 'd':
      return std::chrono::hours{24 * *value};
    default:
      return std::nullopt;
  }
}

}  // namespace sallyport::policy
