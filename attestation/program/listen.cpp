#include "attestation/program/listen.h"

#include <charconv>

namespace sallyport::program {

Result<ListenAddress> parse_listen(std::string_view text) {
  const auto colon = text.rfind(':');
  std::string_view address = text.substr(0, colon);
  if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
  ListenAddress out{std::string{address}};
  const std::string_view port = colon == text.npos ? std::string_view{} : text.substr(colon + 1);
  const auto [stop, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  if (address.empty() || error != std::errc{} || stop != port.data() + port.size())
    return Error{Code::kMalformed, Reason::kUsage,
                 "\"" + std::string{text} + "\" is not ADDRESS:PORT, as 127.0.0.1:8443 or [::1]:8443 is"};
  return out;
}

}  // namespace sallyport::program
