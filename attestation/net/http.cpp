#include "attestation/net/http.h"

#include <algorithm>
#include <charconv>

namespace sallyport::net {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

bool is_alnum(char c) {
  return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z');
}

// tchar of RFC 9110 §5.6.2.
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return is_alnum(c) || std::string_view{"!#$%&'*+-.^_`|~"}.find(c) != std::string_view::npos;
  });
}

bool is_field_value(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '\t' || (c >= 0x20 && c != 0x7F); });
}

bool is_visible_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

// Headers that the transport writes itself: two writers of one of these are how messages get a second
// meaning.
bool belongs_to_transport(std::string_view name) {
  for (const std::string_view ours : {"content-length", "transfer-encoding", "connection", "host",
                                      "content-type", "upgrade", "trailer", "te", "expect"})
    if (equal_ignoring_case(name, ours)) return true;
  return false;
}

Status check_headers(const Headers& headers, bool content_type_allowed) {
  for (const Header& header : headers) {
    if (!is_token(header.name)) return Error{Code::kMalformed, "header name that is no token"};
    if (!is_field_value(header.value)) return Error{Code::kMalformed, "header value with a control byte"};
    if (belongs_to_transport(header.name) &&
        !(content_type_allowed && equal_ignoring_case(header.name, "content-type")))
      return Error{Code::kMalformed, "header that the transport writes: " + header.name};
  }
  return Done{};
}

}  // namespace

std::optional<std::string_view> find_header(const Headers& headers, std::string_view name) {
  for (const Header& header : headers)
    if (equal_ignoring_case(header.name, name)) return header.value;
  return std::nullopt;
}

std::string_view HttpRequest::path() const {
  return std::string_view{target}.substr(0, target.find('?'));
}

HttpResponse HttpResponse::of(unsigned status, std::string content_type, std::string_view body) {
  return HttpResponse{status, std::move(content_type), to_bytes(as_bytes(body)), {}};
}

Status check_message_parts(const HttpRequest& request) {
  if (!is_token(request.method)) return Error{Code::kMalformed, "method that is no token"};
  if (request.target.empty() || request.target.front() != '/' || !is_visible_ascii(request.target))
    return Error{Code::kMalformed, "target that is no path"};
  return check_headers(request.headers, true);
}

Status check_message_parts(const HttpResponse& response) {
  if (response.status < 200 || response.status > 599)
    return Error{Code::kMalformed, "status outside 200 to 599"};
  if (!is_field_value(response.content_type))
    return Error{Code::kMalformed, "content type with a control byte"};
  return check_headers(response.headers, false);
}

std::string HttpUrl::authority() const {
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == (tls ? 443 : 80) ? name : name + ":" + std::to_string(port);
}

Result<HttpUrl> parse_http_url(std::string_view text) {
  constexpr std::size_t kMaxUrlBytes = 2048;
  const auto malformed = [](const char* what) { return Error{Code::kMalformed, what}; };
  if (text.size() > kMaxUrlBytes || !is_visible_ascii(text))
    return malformed("URL with a space or control byte, or too long");
  HttpUrl url;
  if (text.starts_with("https://")) {
    url.tls = true;
    text.remove_prefix(8);
  } else if (text.starts_with("http://")) {
    text.remove_prefix(7);
  } else {
    return malformed("URL that begins with neither http:// nor https://");
  }
  const std::string_view authority = text.substr(0, text.find('/'));
  std::string_view prefix = text.substr(authority.size());
  if (text.find_first_of("?#@\\") != std::string_view::npos)
    return malformed("URL with user, query or fragment");

  std::string_view rest;
  if (authority.starts_with('[')) {
    const auto close = authority.find(']');
    if (close == std::string_view::npos) return malformed("URL with an open bracket");
    url.host = authority.substr(1, close - 1);
    rest = authority.substr(close + 1);
    if (url.host.find(':') == std::string::npos ||
        url.host.find_first_not_of("0123456789abcdefABCDEF:.") != std::string::npos)
      return malformed("URL whose bracketed host is no IPv6 address");
  } else {
    url.host = authority.substr(0, authority.find(':'));
    rest = authority.substr(url.host.size());
    if (url.host.empty() || !std::all_of(url.host.begin(), url.host.end(), [](char c) {
          return is_alnum(c) || c == '-' || c == '.' || c == '_';
        }))
      return malformed("URL whose host is no name");
  }
  url.port = url.tls ? 443 : 80;
  if (!rest.empty()) {
    rest.remove_prefix(1);  // the ':', or whatever stood after the bracket
    const bool colon = authority[authority.size() - rest.size() - 1] == ':';
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), url.port);
    if (!colon || rest.empty() || rest.front() == '0' || error != std::errc{} ||
        end != rest.data() + rest.size())
      return malformed("URL whose port is no number from 1 to 65535");
  }
  while (prefix.ends_with('/')) prefix.remove_suffix(1);
  url.prefix = prefix;
  return url;
}

}  // namespace sallyport::net
