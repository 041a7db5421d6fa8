#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "attestation/base/result.h"

namespace sallyport::program {

// ListenAddress is where a server listens; port 0 picks a free one.
struct ListenAddress {
  std::string address;
  std::uint16_t port = 0;
};

// parse_listen takes "127.0.0.1:8443" or "[::1]:0": an address and a port in decimal, and nothing else.
// Errors: kUsage.
Result<ListenAddress> parse_listen(std::string_view text);

}  // namespace sallyport::program
