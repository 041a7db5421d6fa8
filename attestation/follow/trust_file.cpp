#include "attestation/base/hex.h"
#include "attestation/follow/follower.h"
#include "attestation/base/toml.h"

namespace sallyport::follow {
namespace {

// is_spelled_as_an_origin: a policy's origin has no other characters, so what is read is written as the same.
bool is_spelled_as_an_origin(std::string_view text) {
  return !text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-/") == text.npos;
}

}  // namespace

Result<TrustAnchor> parse_trust_file(std::string_view text) {
  if (text.size() > 16 * 1024) return Error{Code::kMalformed, "a trust file longer than 16 KiB"};
  const auto table = parse_toml(text);
  if (!table.has_value()) return Error{Code::kMalformed, "trust file: " + table.error().what};
  std::string origin, pinned;
  for (const auto& [key, value] : table->fields) {
    if (key != "origin" && key != "policy") return Error{Code::kMalformed, "trust file: unknown key " + key};
    (key == "origin" ? origin : pinned) = value.text;  // of a string; what is none has no text
  }
  constexpr std::string_view kPrefix = "sha256:";
  if (origin.empty() || !pinned.starts_with(kPrefix))
    return Error{Code::kMalformed, "trust file: needs origin = \"…\" and policy = \"sha256:…\""};
  if (!is_spelled_as_an_origin(origin)) return Error{Code::kMalformed, "trust file: origin is none of a log"};
  SP_TRY(const Digest256 digest, parse_digest(std::string_view{pinned}.substr(kPrefix.size())));
  return TrustAnchor{Origin{origin}, digest};
}

std::string format_trust_file(const TrustAnchor& anchor) {
  return "# What a verifier of this log pins: its origin, and the digest of its first policy.\norigin = \"" +
         anchor.origin.get() + "\"\npolicy = \"sha256:" + to_hex(anchor.genesis_policy) + "\"\n";
}

}  // namespace sallyport::follow
