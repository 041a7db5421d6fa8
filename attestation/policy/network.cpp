#include "attestation/policy/network.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace sallyport::policy {
namespace {

// same_prefix compares the first `bits` bits.
bool same_prefix(const IpAddress& a, const IpAddress& b, unsigned bits) {
  if (a.v6 != b.v6) return false;
  const unsigned whole = bits / 8, rest = bits % 8;
  if (!std::equal(a.bytes.begin(), a.bytes.begin() + whole, b.bytes.begin())) return false;
  if (rest == 0) return true;
  const unsigned mask = 0xFFU << (8 - rest) & 0xFFU;
  return (a.bytes[whole] & mask) == (b.bytes[whole] & mask);
}

IpAddress without_host_bits(const IpAddress& address, unsigned prefix) {
  IpAddress out{address.v6, {}};
  for (unsigned bit = 0; bit < prefix; ++bit)
    out.bytes[bit / 8] =
        static_cast<std::uint8_t>(out.bytes[bit / 8] | (address.bytes[bit / 8] & 0x80U >> bit % 8));
  return out;
}

}  // namespace

Result<IpAddress> parse_address(std::string_view text) {
  if (text.size() >= INET6_ADDRSTRLEN) return Error{Code::kMalformed, "not an IP address"};
  const std::string terminated{text};
  if (terminated.find('\0') != std::string::npos) return Error{Code::kMalformed, "not an IP address"};
  IpAddress out;
  if (inet_pton(AF_INET, terminated.c_str(), out.bytes.data()) == 1) return out;
  ByteArray<16> v6{};
  if (inet_pton(AF_INET6, terminated.c_str(), v6.data()) != 1)
    return Error{Code::kMalformed, "not an IP address"};
  static constexpr ByteArray<12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  if (std::equal(kMapped.begin(), kMapped.end(), v6.begin())) {
    std::copy(v6.begin() + 12, v6.end(), out.bytes.begin());
    return out;
  }
  return IpAddress{true, v6};
}

Result<Network> parse_network(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return Error{Code::kMalformed, "a network needs a prefix length"};
  SP_TRY(const IpAddress base, parse_address(text.substr(0, slash)));
  if (!base.v6 && text.find(':') != std::string_view::npos)
    return Error{Code::kMalformed, "an IPv4 network written as IPv6"};
  const std::string_view digits = text.substr(slash + 1);
  unsigned prefix = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), prefix);
  if (failure != std::errc{} || end != digits.data() + digits.size() || digits.front() == '0' ||
      prefix > (base.v6 ? 128U : 32U))
    return Error{Code::kMalformed, "not a prefix length from 1 to 32 or 128"};
  if (without_host_bits(base, prefix) != base)
    return Error{Code::kMalformed, "bits are set after the prefix"};
  return Network{base, prefix, std::string{text}};
}

bool contains(const Network& network, const IpAddress& address) {
  return same_prefix(network.base, address, network.prefix);
}

bool overlap(const Network& a, const Network& b) {
  return same_prefix(a.base, b.base, std::min(a.prefix, b.prefix));
}

bool is_globally_reachable(const IpAddress& address) {
  struct Block {
    bool v6;
    ByteArray<16> base;
    unsigned prefix;
  };
  static constexpr Block kNotReachable[] = {
      {false, {0}, 8},                       // this network
      {false, {10}, 8},                      // private use
      {false, {100, 64}, 10},                // shared address space
      {false, {127}, 8},                     // loopback
      {false, {169, 254}, 16},               // link-local
      {false, {172, 16}, 12},                // private use
      {false, {192, 0, 2}, 24},              // documentation
      {false, {192, 168}, 16},               // private use
      {false, {198, 18}, 15},                // benchmarking
      {false, {198, 51, 100}, 24},           // documentation
      {false, {203, 0, 113}, 24},            // documentation
      {true, {}, 127},                       // unspecified, loopback
      {true, {0x20, 0x01, 0x0D, 0xB8}, 32},  // documentation
      {true, {0xFC}, 7},                     // unique local
      {true, {0xFE, 0x80}, 10},              // link-local
  };
  return std::none_of(std::begin(kNotReachable), std::end(kNotReachable), [&](const Block& block) {
    return same_prefix(IpAddress{block.v6, block.base}, address, block.prefix);
  });
}

}  // namespace sallyport::policy
