// What parse_ek_certificate takes is a certificate inside the bytes, which parses alone to itself; looking
// into it is safe.
#include "attestation/evidence/endorsement.h"

#include <algorithm>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sallyport;
  const ByteView bytes{data, size};
  const auto parsed = evidence::parse_ek_certificate(bytes);
  if (!parsed.has_value()) return 0;
  const Bytes& der = parsed->der();
  SP_ASSERT(std::search(bytes.begin(), bytes.end(), der.begin(), der.end()) != bytes.end());
  const auto again = evidence::parse_ek_certificate(der);
  SP_ASSERT(again.has_value() && *again == *parsed);
  static_cast<void>(parsed->directory_names());
  static_cast<void>(parsed->extended_key_usage());
  static_cast<void>(parsed->key_algorithm_oid());
  const auto key = parsed->public_key();
  if (key.has_value()) SP_ASSERT(crypto::PublicKey::parse_spki(key->spki()).has_value());
  // Nothing that is not signed by a root verifies, whatever it says.
  SP_ASSERT(!crypto::verify_chain(*parsed, {}, {}, UnixMillis{1'795'000'000'000}).has_value());
  return 0;
}
