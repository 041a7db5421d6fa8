#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport::net {

struct Header {
  std::string name, value;
};
using Headers = std::vector<Header>;

// find_header gives the value of the first header of that name, in any case of letters.
std::optional<std::string_view> find_header(const Headers& headers, std::string_view name);

// HttpRequest is claimed in every part: it is what a peer sent, within the caps, and nothing more is known of
// it.
struct HttpRequest {
  std::string method = "GET";
  std::string target = "/";  // as on the wire: path, and query after '?'
  Headers headers;
  Bytes body;

  std::string_view path() const;  // the target up to '?'
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type;  // empty: no such header
  Bytes body;
  Headers headers;

  std::string_view text() const { return as_text(body); }
  static HttpResponse of(unsigned status, std::string content_type, std::string_view body);
};

// check_message_parts refuses what would break out of its place in an HTTP/1.1 message: names that are no
// token, values, methods and targets with control bytes, statuses outside 200…599. Errors: kMalformed.
Status check_message_parts(const HttpRequest& request);
Status check_message_parts(const HttpResponse& response);

// HttpUrl is http://host[:port][/prefix] or https://…; no user, query or fragment; an IPv6 address stands in
// brackets.
struct HttpUrl {
  bool tls = false;
  std::string host;  // without brackets
  std::uint16_t port = 0;
  std::string prefix;  // "" or "/a/b", no '/' at the end: every target is appended to it

  std::string authority() const;  // host[:port], as in the Host header
};
Result<HttpUrl> parse_http_url(std::string_view text);

}  // namespace sallyport::net
