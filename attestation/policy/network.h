#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "attestation/base/bytes.h"
#include "attestation/base/result.h"

namespace sallyport::policy {

// IpAddress is an IPv4 or IPv6 address. An IPv4-mapped IPv6 address (::ffff:a.b.c.d) is the IPv4 address.
struct IpAddress {
  bool v6 = false;
  ByteArray<16> bytes{};  // network byte order; IPv4 uses the first four
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
};

// parse_address takes the text of one address, as inet_pton does: no zone, no port, no brackets. Errors:
// kMalformed.
Result<IpAddress> parse_address(std::string_view text);

// is_globally_reachable is false for addresses that no geolocation database can know: private, shared,
// loopback, link-local, documentation and benchmark ranges (IANA special-purpose address registries, RFC
// 6890).
bool is_globally_reachable(const IpAddress& address);

// Network is a CIDR block; the bits after the prefix are zero.
struct Network {
  IpAddress base;
  unsigned prefix = 0;
  std::string text;  // as in the policy, for sshd's source-address
};

// parse_network takes "10.20.0.0/16" or "2001:db8:20::/48". A prefix of 0, bits set after the prefix, or IPv4
// written as IPv6: kMalformed.
Result<Network> parse_network(std::string_view text);

bool contains(const Network& network, const IpAddress& address);
bool overlap(const Network& a, const Network& b);

}  // namespace sallyport::policy
