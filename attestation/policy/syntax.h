#pragma once

// Which words the policy document may hold: closed character sets, so that what an administrator reads is
// what a machine compares, and what reaches a certificate, a shell or a log line needs no escaping. Private
// to this room.

#include <chrono>
#include <optional>
#include <string_view>

namespace sallyport::policy {

// is_id: [a-z0-9][a-z0-9._-]*, at most 64: regions, groups, teams, resources, rules, tokens, hosts.
bool is_id(std::string_view text);
// is_person_id: the same with '+' and one '@' inside, at most 128.
bool is_person_id(std::string_view text);
// is_origin: <domain>/[<tenant>/…]log/<generation>, at most 200.
bool is_origin(std::string_view text);
// is_dns_name: labels in lower case, at most 253.
bool is_dns_name(std::string_view text);
// is_endpoint: https://<DNS name, IPv4 or [IPv6]>[:port], nothing after it.
bool is_endpoint(std::string_view text);
// is_country: two capitals.
bool is_country(std::string_view text);
// is_account: [a-z_][a-z0-9_-]*, at most 32.
bool is_account(std::string_view text);
// is_command: an absolute path without empty, '.' or '..' parts and without arguments, at most 256.
bool is_command(std::string_view text);
// is_fingerprint: SHA256:<43 characters of unpadded base64>.
bool is_fingerprint(std::string_view text);

// parse_duration takes "90s", "15m", "2h" or "30d": no sign, no leading zero, at least one second. Nothing where it
// is not one.
std::optional<std::chrono::seconds> parse_duration(std::string_view text);

}  // namespace sallyport::policy
