// parse_http_url: what is a URL, put together from its pieces, is the same URL, and its pieces cannot break
// out of the request line and the Host header that they are written into.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "attestation/net/http.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const auto url = net::parse_http_url({reinterpret_cast<const char*>(data), size});
  if (!url.has_value()) return 0;
  const std::string whole = (url->tls ? "https://" : "http://") + url->authority() + url->prefix;
  const auto again = net::parse_http_url(whole);
  if (!again.has_value() || again->tls != url->tls || again->host != url->host || again->port != url->port ||
      again->prefix != url->prefix)
    std::abort();
  if (url->host.empty() || url->port == 0) std::abort();
  if (!std::all_of(whole.begin(), whole.end(), [](char c) { return c > 0x20 && c < 0x7F; })) std::abort();
  net::HttpRequest request;
  request.target = url->prefix + "/v1/hello";
  if (!net::check_message_parts(request).has_value()) std::abort();
  return 0;
}
